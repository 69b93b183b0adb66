//! The diff of a namespace as data: each folder under tests/cases/diff has `before.toml` and `after.toml`, records as `up` reads
//! them, and the changes in `expected.txt`. And the plan: which steps changes become, in which order.

use std::fmt::Write as _;

use libtest_mimic::Trial;
use netns_networkd::diff::{Change, NetnsChange, diff_netns};
use netns_networkd::model::{File, HostLink, Kind, LinkName, Netns, NetnsName, Place, Provenance, Unit, UnitName};
use netns_networkd::plan::{Plan, Reload, Request, plan};

use crate::common::{Case, cases};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        a_stopped_unit_needs_no_hold,
        adoption_of_a_running_unit_is_held,
        adoption_with_restart,
        release_keeps_the_hold,
        release_with_restart,
        a_move_keeps_the_hold_on_the_old_netns,
        a_move_with_restart,
        a_process_in_a_lost_netns_is_pending,
        a_unit_in_its_place_is_left_alone,
        nothing_to_do_is_no_step,
        only_networkds_folder_reloads_networkd,
        only_drop_ins_reload_systemd,
        a_cut_off_run_reloads_both,
        other_peoples_files_are_kept,
        force_takes_other_peoples_files,
        holds_of_an_earlier_run_end,
        a_hold_that_is_needed_stays,
        a_running_netns_converges_once,
        what_is_stuck_waits_for_a_restart,
        a_stray_is_held,
        a_netns_that_is_left_is_held_and_let_go,
        a_look_at_some_units_ends_no_hold_of_others,
        a_bridge_goes_last,
        a_missing_bridge_comes_with_a_reload_and_its_ports_later,
        what_a_link_has_lost_comes_back,
        what_networkd_reads_anew_it_sets_up_itself,
        words_for_a_person,
    ];
    trials.extend(cases("diff", gives));
    trials
}

fn gives(case: &Case) {
    let read = |file: &str| -> Netns { toml::from_str(&case.read(file)).unwrap_or_else(|e| panic!("{}/{file}: {e}", case.name)) };
    let (before, after) = (read("before.toml"), read("after.toml"));
    let lines = diff_netns(&before, &after).iter().fold(String::new(), |mut text, change| {
        writeln!(text, "{change}").unwrap();
        text
    });
    case.expect("expected.txt", &lines);
    assert_eq!(diff_netns(&after, &after), Vec::new());
}

fn netns(name: &str) -> NetnsName {
    NetnsName::parse(name).unwrap()
}

fn unit(bound_to: Option<&str>, runs_in: impl Into<Option<Place>>) -> Unit {
    Unit { bound_to: bound_to.map(netns), runs_in: runs_in.into(), ..Unit::default() }
}

fn inside(name: &str) -> Place {
    Place::Netns(netns(name))
}

const MAIL_DROP_IN: &str = "/etc/systemd/system/postfix.service.d/50-netns-networkd.conf";

fn write(path: &str) -> Change {
    Change::WriteFile { path: path.into(), before: None, after: "new".to_owned() }
}

fn rewrite(path: &str, provenance: Provenance) -> Change {
    Change::WriteFile { path: path.into(), before: Some(File { content: "old".to_owned(), provenance }), after: "new".to_owned() }
}

fn remove(path: &str, provenance: Provenance) -> Change {
    Change::RemoveFile { path: path.into(), before: File { content: "old".to_owned(), provenance } }
}

fn postfix(before: Unit, after: Unit) -> Change {
    Change::Unit { name: UnitName::parse("postfix.service").unwrap(), before, after }
}

/// Steps, then what is pending, then what is kept, a line each, as a person would read them.
fn show(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        writeln!(text, "{step}").unwrap();
    }
    for pending in &plan.pending {
        writeln!(text, "pending: {pending}").unwrap();
    }
    for kept in &plan.kept {
        writeln!(text, "kept: {kept}").unwrap();
    }
    text
}

#[track_caller]
fn assert_plan(changes: Vec<Change>, request: &Request, wanted: &str) -> Plan {
    let plan = plan(changes, request);
    let got = show(&plan);
    assert!(got == wanted, "{}", crate::common::diff(wanted, &got));
    plan
}

fn restart() -> Request {
    Request { restart: true, ..Request::default() }
}

fn nothing_to_do_is_no_step() {
    let plan = assert_plan(Vec::new(), &Request::default(), "");
    assert_eq!(plan, Plan::default());
    let _ = assert_plan(Vec::new(), &restart(), "");
}

fn a_stopped_unit_needs_no_hold() {
    let changes = vec![write(MAIL_DROP_IN), postfix(unit(None, None), unit(Some("mail"), inside("mail")))];
    let plan = assert_plan(changes.clone(), &Request::default(), &format!("write {MAIL_DROP_IN}\nreload systemd\n"));
    assert_eq!(plan.changes, changes);
}

fn adoption() -> Vec<Change> {
    vec![write(MAIL_DROP_IN), postfix(unit(None, Some(Place::Host)), unit(Some("mail"), inside("mail")))]
}

fn adoption_of_a_running_unit_is_held() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n\
         end the hold on netns 'mail' (stop netns-hold@mail.service)\n\
         pending: postfix.service still runs on the host and will run in netns 'mail' when it is restarted: \
         `systemctl restart postfix.service` or `netns-networkd sync --restart`\n"
    );
    let plan = assert_plan(adoption(), &Request::default(), &wanted);
    assert_eq!(plan.changes, adoption(), "the binding itself changes at once");
}

fn adoption_with_restart() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n\
         restart postfix.service\n\
         end the hold on netns 'mail' (stop netns-hold@mail.service)\n"
    );
    let _ = assert_plan(adoption(), &restart(), &wanted);
}

fn release() -> Vec<Change> {
    vec![remove(MAIL_DROP_IN, Provenance::Ours), postfix(unit(Some("mail"), inside("mail")), unit(None, Some(Place::Host)))]
}

/// The process is inside still: without the hold, systemd takes the namespace away under it.
fn release_keeps_the_hold() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         remove {MAIL_DROP_IN}\n\
         reload systemd\n\
         pending: postfix.service still runs in netns 'mail' and will run on the host when it is restarted: \
         `systemctl restart postfix.service` or `netns-networkd sync --restart`\n"
    );
    let _ = assert_plan(release(), &Request::default(), &wanted);
}

fn release_with_restart() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         remove {MAIL_DROP_IN}\n\
         reload systemd\n\
         restart postfix.service\n\
         end the hold on netns 'mail' (stop netns-hold@mail.service)\n"
    );
    let _ = assert_plan(release(), &restart(), &wanted);
}

fn moved() -> Vec<Change> {
    let change = postfix(unit(Some("mail"), inside("mail")), unit(Some("web"), inside("web")));
    vec![rewrite(MAIL_DROP_IN, Provenance::Ours), change]
}

fn a_move_keeps_the_hold_on_the_old_netns() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         hold netns 'web' while units change (start netns-hold@web.service)\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n\
         end the hold on netns 'web' (stop netns-hold@web.service)\n\
         pending: postfix.service still runs in netns 'mail' and will run in netns 'web' when it is restarted: \
         `systemctl restart postfix.service` or `netns-networkd sync --restart`\n"
    );
    let _ = assert_plan(moved(), &Request::default(), &wanted);
}

fn a_move_with_restart() {
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         hold netns 'web' while units change (start netns-hold@web.service)\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n\
         restart postfix.service\n\
         end the hold on netns 'mail' (stop netns-hold@mail.service)\n\
         end the hold on netns 'web' (stop netns-hold@web.service)\n"
    );
    let _ = assert_plan(moved(), &restart(), &wanted);
}

/// Bound as it should be, but its process is elsewhere: nothing to write, and nothing is said to have changed.
fn a_process_in_a_lost_netns_is_pending() {
    let change = || vec![postfix(unit(Some("mail"), Some(Place::Other)), unit(Some("mail"), inside("mail")))];
    let wanted = "pending: postfix.service still runs where it was started and will run in netns 'mail' when it is restarted: \
                  `systemctl restart postfix.service` or `netns-networkd sync --restart`\n";
    let plan = assert_plan(change(), &Request::default(), wanted);
    assert_eq!(plan.changes, Vec::new());
    let plan = assert_plan(change(), &restart(), "restart postfix.service\n");
    assert_eq!(plan.changes, change());
}

/// `--restart` restarts what has to move, and nothing else.
fn a_unit_in_its_place_is_left_alone() {
    let changes = vec![write("/etc/systemd/network/10-netns-networkd-port-mail-eth0.network"), write(MAIL_DROP_IN)];
    let wanted = format!(
        "write /etc/systemd/network/10-netns-networkd-port-mail-eth0.network\nreload systemd-networkd\nwrite {MAIL_DROP_IN}\nreload systemd\n"
    );
    let _ = assert_plan(changes, &restart(), &wanted);
    // bound by hand, runs inside already: only the binding becomes ours
    let change = vec![postfix(unit(None, inside("mail")), unit(Some("mail"), inside("mail")))];
    let wanted = "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
                  reload systemd\n\
                  end the hold on netns 'mail' (stop netns-hold@mail.service)\n";
    let _ = assert_plan(change, &restart(), wanted);
}

fn only_networkds_folder_reloads_networkd() {
    for path in ["/var/lib/netns-networkd/netns/mail.json", "/etc/netns/mail/resolv.conf", "/etc/systemd/network-other/x"] {
        let _ = assert_plan(vec![write(path)], &Request::default(), &format!("write {path}\n"));
        let _ = assert_plan(vec![remove(path, Provenance::Ours)], &Request::default(), &format!("remove {path}\n"));
    }
    let path = "/etc/systemd/network/10-netns-networkd-bridge-br0.netdev";
    for (change, verb) in [(write(path), "write"), (rewrite(path, Provenance::Ours), "write"), (remove(path, Provenance::Ours), "remove")] {
        let _ = assert_plan(vec![change], &Request::default(), &format!("{verb} {path}\nreload systemd-networkd\n"));
    }
}

fn only_drop_ins_reload_systemd() {
    for (change, verb) in [
        (write(MAIL_DROP_IN), "write"),
        (rewrite(MAIL_DROP_IN, Provenance::Ours), "write"),
        (remove(MAIL_DROP_IN, Provenance::Ours), "remove"),
    ] {
        let _ = assert_plan(vec![change], &Request::default(), &format!("{verb} {MAIL_DROP_IN}\nreload systemd\n"));
    }
    let path = "/etc/systemd/system-other/x";
    let _ = assert_plan(vec![write(path)], &Request::default(), &format!("write {path}\n"));
}

fn a_cut_off_run_reloads_both() {
    let request = Request { reload: Reload::All, ..Request::default() };
    let _ = assert_plan(Vec::new(), &request, "reload systemd-networkd\nreload systemd\n");
}

const PORT: &str = "/etc/systemd/network/10-netns-networkd-port-mail-eth0.network";

fn others() -> Vec<Change> {
    vec![
        rewrite(PORT, Provenance::Edited),
        rewrite(MAIL_DROP_IN, Provenance::Foreign),
        remove("/etc/systemd/network/10-netns-networkd-old.network", Provenance::Edited),
        remove("/etc/netns/mail/resolv.conf", Provenance::Foreign),
    ]
}

fn other_peoples_files_are_kept() {
    let wanted = format!(
        "kept: {PORT} was changed by hand and is left alone: `netns-networkd sync --force` replaces it\n\
         kept: {MAIL_DROP_IN} was not made by netns-networkd and is left alone: `netns-networkd sync --force` replaces it\n\
         kept: /etc/systemd/network/10-netns-networkd-old.network was changed by hand and is left alone: \
         `netns-networkd sync --force` replaces it\n\
         kept: /etc/netns/mail/resolv.conf was not made by netns-networkd and is left alone: `netns-networkd sync --force` replaces it\n"
    );
    let plan = assert_plan(others(), &Request::default(), &wanted);
    assert_eq!(plan.changes, Vec::new(), "nothing changes, so nothing is said to");
}

fn force_takes_other_peoples_files() {
    let wanted = format!(
        "write {PORT}\n\
         remove /etc/systemd/network/10-netns-networkd-old.network\n\
         remove /etc/netns/mail/resolv.conf\n\
         reload systemd-networkd\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n"
    );
    let request = Request { force: true, ..Request::default() };
    let plan = assert_plan(others(), &request, &wanted);
    assert_eq!(plan.changes, others());
}

fn holds_of_an_earlier_run_end() {
    let request = Request { held: [netns("mail"), netns("old")].into(), ..Request::default() };
    let wanted = "end the hold on netns 'mail' (stop netns-hold@mail.service)\nend the hold on netns 'old' (stop netns-hold@old.service)\n";
    let _ = assert_plan(Vec::new(), &request, wanted);
}

/// The second sync after a release: the drop-in is gone, the process is inside still.
fn a_hold_that_is_needed_stays() {
    let change = vec![postfix(unit(None, inside("mail")), unit(None, Some(Place::Host)))];
    let request = Request { held: [netns("mail"), netns("old")].into(), ..Request::default() };
    let wanted = "end the hold on netns 'old' (stop netns-hold@old.service)\n\
                  pending: postfix.service still runs in netns 'mail' and will run on the host when it is restarted: \
                  `systemctl restart postfix.service` or `netns-networkd sync --restart`\n";
    let plan = assert_plan(change, &request, wanted);
    assert_eq!(plan.changes, Vec::new());
    let change = vec![postfix(unit(None, inside("mail")), unit(None, Some(Place::Host)))];
    let request = Request { restart: true, ..request };
    let wanted = "restart postfix.service\n\
                  end the hold on netns 'mail' (stop netns-hold@mail.service)\n\
                  end the hold on netns 'old' (stop netns-hold@old.service)\n";
    let _ = assert_plan(change, &request, wanted);
}

fn a_running_netns_converges_once() {
    let link = |name: &str| LinkName::parse(name).unwrap();
    let change = |name: &str| Change::Netns {
        name: netns("mail"),
        change: NetnsChange::SetMtu { name: link(name), host_end: Some(link("mail-eth0")), mtu: 9000 },
    };
    let record = "/var/lib/netns-networkd/netns/mail.json";
    let changes = vec![write(record), write(PORT), write(MAIL_DROP_IN), change("eth0"), change("eth1")];
    let wanted = format!(
        "write {record}\nwrite {PORT}\nreload systemd-networkd\nwrite {MAIL_DROP_IN}\nreload systemd\nchange netns 'mail' while it runs\n"
    );
    let _ = assert_plan(changes, &Request::default(), &wanted);
}

fn what_is_stuck_waits_for_a_restart() {
    let link = |name: &str| LinkName::parse(name).unwrap();
    let mtu = || Change::Netns { name: netns("mail"), change: NetnsChange::SetMtu { name: link("eth1"), host_end: None, mtu: 9000 } };
    let stuck = vec![
        NetnsChange::RemoveLink { name: link("eth0"), kind: Box::new(Kind::Dummy) },
        NetnsChange::SetMac { name: link("eth0"), mac: "02:00:00:00:00:01".parse().unwrap() },
    ];
    let request = Request { stuck: [(netns("mail"), stuck)].into(), ..Request::default() };
    let wanted = "change netns 'mail' while it runs\n\
                  pending: netns 'mail' cannot be changed like this while it is up: remove link 'eth0' with kind dummy: \
                  `netns-networkd sync --restart`\n";
    let _ = assert_plan(vec![mtu()], &request, wanted);
    // it comes up as its record says
    let _ = assert_plan(vec![mtu()], &Request { restart: true, ..request }, "restart netns@mail.service\n");
}

fn a_stray_is_held() {
    let change = || vec![postfix(unit(None, inside("mail")), unit(None, None))];
    let pending = "pending: postfix.service runs in netns 'mail', and nothing binds it to that: its unit was renamed, masked or changed, \
                   or never was bound. The namespace stays until `systemctl stop postfix.service`\n";
    let hold = "hold netns 'mail' while units change (start netns-hold@mail.service)\n";
    for restart in [false, true] {
        let request = Request { restart, ..Request::default() };
        let plan = assert_plan(change(), &request, &format!("{hold}{pending}"));
        assert_eq!(plan.changes, Vec::new());
        let _ = assert_plan(change(), &Request { held: [netns("mail")].into(), ..request }, pending);
    }
}

fn a_netns_that_is_left_is_held_and_let_go() {
    let request = Request { left: [netns("mail")].into(), ..Request::default() };
    let wanted = "hold netns 'mail' while units change (start netns-hold@mail.service)\n\
                  end the hold on netns 'mail' (stop netns-hold@mail.service)\n";
    let _ = assert_plan(Vec::new(), &request, wanted);
}

fn a_look_at_some_units_ends_no_hold_of_others() {
    let request = Request { held: [netns("mail")].into(), keep: [netns("mail")].into(), ..Request::default() };
    let wanted = format!(
        "hold netns 'mail' while units change (start netns-hold@mail.service)\nwrite {MAIL_DROP_IN}\nreload systemd\nrestart postfix.service\n"
    );
    let _ = assert_plan(adoption(), &Request { restart: true, ..request }, &wanted);
}

fn a_bridge_goes_last() {
    let name = LinkName::parse("br-old").unwrap();
    let gone = Change::HostLink { name, before: Some(HostLink { is_bridge: true, ..HostLink::default() }), after: None };
    let netdev = "/etc/systemd/network/10-netns-networkd-bridge-br-old.netdev";
    let changes = [vec![gone, remove(netdev, Provenance::Ours)], adoption()].concat();
    let wanted = format!(
        "remove {netdev}\n\
         reload systemd-networkd\n\
         hold netns 'mail' while units change (start netns-hold@mail.service)\n\
         write {MAIL_DROP_IN}\n\
         reload systemd\n\
         restart postfix.service\n\
         end the hold on netns 'mail' (stop netns-hold@mail.service)\n\
         remove bridge 'br-old'\n"
    );
    let _ = assert_plan(changes, &restart(), &wanted);
}

fn host_links() -> (Change, Change) {
    let (bridge, uplink) = (LinkName::parse("br-lan").unwrap(), LinkName::parse("eno1").unwrap());
    let wanted = HostLink { is_bridge: true, up: true, addresses: ["192.0.2.1/24".parse().unwrap()].into(), ..HostLink::default() };
    let port = HostLink { up: true, master: Some(bridge.clone()), ..HostLink::default() };
    let bare = HostLink { is_bridge: true, ..HostLink::default() };
    let change = |name, before, after| Change::HostLink { name, before: Some(before), after: Some(after) };
    (change(bridge, bare, wanted), change(uplink, HostLink::default(), port))
}

fn a_missing_bridge_comes_with_a_reload_and_its_ports_later() {
    let (bridge, uplink) = host_links();
    let Change::HostLink { name, after, .. } = bridge else { panic!() };
    let missing = Change::HostLink { name, before: None, after };
    let _ = assert_plan(vec![missing.clone()], &Request::default(), "reload systemd-networkd\n");
    let _ = assert_plan(vec![missing, uplink], &Request::default(), "reload systemd-networkd\n");
}

/// networkd does not look after what it has configured.
fn what_a_link_has_lost_comes_back() {
    let (bridge, uplink) = host_links();
    let wanted = "reload systemd-networkd\nmake systemd-networkd set up link 'br-lan' again\nset link 'eno1' as configured\n";
    let _ = assert_plan(vec![bridge.clone(), uplink.clone()], &Request::default(), wanted);
    // a second look needs no second reload
    let again = Request { reload: Reload::No, ..Request::default() };
    let _ = assert_plan(vec![bridge, uplink], &again, wanted.strip_prefix("reload systemd-networkd\n").unwrap());
}

fn what_networkd_reads_anew_it_sets_up_itself() {
    let (bridge, uplink) = host_links();
    let file = |kind| format!("/etc/systemd/network/10-netns-networkd-{kind}.network");
    let changes = vec![write(&file("bridge-br-lan")), write(&file("uplink-eno1")), bridge, uplink];
    let wanted = format!("write {}\nwrite {}\nreload systemd-networkd\n", file("bridge-br-lan"), file("uplink-eno1"));
    let _ = assert_plan(changes, &Request::default(), &wanted);
}

fn words_for_a_person() {
    let name = LinkName::parse("br-lan").unwrap();
    let bridge = HostLink {
        is_bridge: true,
        up: true,
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        mtu: Some(9000),
        addresses: ["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()].into(),
        ..HostLink::default()
    };
    let uplink = HostLink { up: true, master: Some(name.clone()), ..HostLink::default() };
    let eno1 = || LinkName::parse("eno1").unwrap();
    let words = [
        write("/etc/a"),
        rewrite("/etc/a", Provenance::Ours),
        remove("/etc/a", Provenance::Ours),
        Change::HostLink { name: name.clone(), before: None, after: Some(bridge.clone()) },
        Change::HostLink { name: name.clone(), before: Some(HostLink::default()), after: Some(bridge.clone()) },
        Change::HostLink { name: name.clone(), before: Some(bridge.clone()), after: None },
        Change::HostLink { name: eno1(), before: None, after: Some(uplink.clone()) },
        Change::HostLink { name: eno1(), before: Some(HostLink { up: true, ..HostLink::default() }), after: Some(uplink) },
        postfix(unit(None, None), unit(Some("mail"), inside("mail"))),
        postfix(unit(Some("mail"), inside("mail")), unit(Some("web"), inside("web"))),
        postfix(unit(Some("mail"), inside("mail")), unit(None, Some(Place::Host))),
        postfix(unit(Some("mail"), Some(Place::Host)), unit(Some("mail"), inside("mail"))),
        postfix(unit(None, inside("mail")), unit(None, Some(Place::Host))),
        Change::Netns { name: netns("mail"), change: NetnsChange::Add },
        Change::Netns { name: netns("mail"), change: NetnsChange::Remove },
        Change::Netns { name: netns("mail"), change: NetnsChange::SetSysctl { key: "net.a".to_owned(), value: "1".to_owned() } },
    ]
    .map(|change| format!("{change}\n"))
    .concat();
    let wanted = "add file /etc/a\n\
                  change file /etc/a\n\
                  remove file /etc/a\n\
                  add bridge 'br-lan'\n\
                  link 'br-lan': make it a bridge, set it up, set its MAC address to 02:00:00:00:00:01, set its MTU to 9000, \
                  add address 192.0.2.1/24, add address 2001:db8::1/64\n\
                  remove link 'br-lan'\n\
                  add link 'eno1' to bridge 'br-lan'\n\
                  link 'eno1': put it on bridge 'br-lan'\n\
                  bind postfix.service to netns 'mail'\n\
                  bind postfix.service to netns 'web' instead of 'mail'\n\
                  release postfix.service from netns 'mail'\n\
                  restart postfix.service so that it runs in netns 'mail'\n\
                  restart postfix.service so that it runs on the host\n\
                  add network namespace 'mail'\n\
                  remove network namespace 'mail'\n\
                  set net.a to 1 in netns 'mail'\n";
    assert!(words == wanted, "{}", crate::common::diff(wanted, &words));
}
