//! Tells the linker how to put the released program together (docs/decisions/0026).

// a build script speaks to cargo by its output, and hears it by its environment
#![allow(clippy::disallowed_macros, clippy::disallowed_methods)]

fn main() {
    // when this runs, not when it was compiled: a folder of builds may have it from another clone
    let order = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is") + "/src/hot.ld";
    println!("cargo:rerun-if-changed={order}");
    // `make order` looks at a program that is put together as it comes
    println!("cargo:rerun-if-env-changed=NETNS_NETWORKD_UNORDERED");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        // what has to be adapted to the program's address, at each start, in a form that takes a thirtieth of the space
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        if std::env::var_os("NETNS_NETWORKD_UNORDERED").is_none() {
            println!("cargo:rustc-link-arg-bins=-Wl,-T,{order}");
        }
    }
}
