use netns_networkd::{error, model::NetnsName, reconcile::netns};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let name = NetnsName::parse(&args[2]).unwrap();
    let r = if args[1] == "up" {
        netns::up(&name).map(|c| {
            for c in c {
                println!("{c}")
            }
        })
    } else {
        netns::down(&name)
    };
    if let Err(e) = r {
        eprintln!("error: {}", error::render(&e));
        std::process::exit(1)
    }
}
