//! What somebody learns the tool by, on a host: man pages, completion, the examples of the documents.

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![names_are_completed]
}

/// Asks bash what it would complete a line to: it calls the function that our script registers, with the words and the last one.
#[track_caller]
fn complete(lab: &Lab, line: &str) -> String {
    let script = r#"source /usr/share/bash-completion/completions/netns-networkd
        read -ra COMP_WORDS <<<"$1"; [[ $1 != *' ' ]] || COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
        function=$(complete -p netns-networkd | grep -o '_clap[a-z_]*')
        $function netns-networkd "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    lab.run(&["bash", "-c", script, "bash", line]).ok().stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn names_are_completed(suite: Suite) {
    let lab = Lab::new(suite);
    lab.config("[namespace.mail]\ndescription = \"letters\"\n[namespace.maps]\n[namespace.web]\n");
    lab.sync_changes(&[]);
    lab.config("[namespace.mail]\n[namespace.maps]\n[namespace.new]\n");
    assert_eq!(complete(&lab, "netns-networkd exec ma"), "mail maps");
    assert_eq!(complete(&lab, "netns-networkd sync mail n"), "new", "of the configuration, although no sync has recorded it");
    assert_eq!(complete(&lab, "netns-networkd status w"), "web", "of the last sync");
    assert_eq!(complete(&lab, "netns-networkd sync --dr"), "--dry-run");
    assert_eq!(complete(&lab, "netns-networkd stat"), "status");
    // a faulty configuration hides nothing that was recorded
    lab.config("[namespace.");
    assert_eq!(complete(&lab, "netns-networkd exec ma"), "mail maps");
    let scripts =
        "head -qn 1 /usr/share/zsh/vendor-completions/_netns-networkd; ls /usr/share/fish/vendor_completions.d /usr/share/man/man8";
    let shown = lab.sh(scripts).ok().stdout;
    assert_eq!(shown.lines().next(), Some("#compdef netns-networkd"), "{shown}");
    lab.config("");
}
