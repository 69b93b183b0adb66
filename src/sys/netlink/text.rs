//! Names in the kernel's answers that are no text.
//!
//! The kernel takes nearly any bytes for the name of a link, an alias or a label, and who may make links in a namespace, as a service
//! with `CAP_NET_ADMIN` may in its own, chooses them. Such a name must not keep the rest from being read.

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWRULE: u16 = 32;

/// `NLA_TYPE_MASK`: the type without its flags.
const TYPE: u16 = 0x3fff;

/// Gives the payload of a message again, with `?` for what is no text in its names; none if it has no names. What is put there is in no
/// name that this tool gives: it can be nothing of its.
pub(super) fn made_readable(kind: u16, payload: &[u8]) -> Option<Vec<u8>> {
    const IFLA_PROP_LIST: u16 = 52;
    let (header, names): (usize, &[u16]) = match kind {
        // IFLA_IFNAME, IFLA_IFALIAS, and the alternative names in their list
        RTM_NEWLINK => (16, &[3, 20, IFLA_PROP_LIST]),
        // IFA_LABEL
        RTM_NEWADDR => (8, &[3]),
        // FRA_IIFNAME, FRA_OIFNAME
        RTM_NEWRULE => (12, &[3, 17]),
        _ => return None,
    };
    let mut bytes = payload.to_vec();
    let attributes = bytes.get_mut(header..)?;
    for_each(attributes, |kind, value| match kind {
        IFLA_PROP_LIST if header == 16 => for_each(value, |_, name| clean(name)),
        _ if names.contains(&kind) => clean(value),
        _ => {}
    });
    Some(bytes)
}

fn for_each(mut attributes: &mut [u8], mut then: impl FnMut(u16, &mut [u8])) {
    while let [l0, l1, t0, t1, ..] = *attributes {
        let (length, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([t0, t1]) & TYPE);
        let Some(value) = attributes.get_mut(4..length) else { return };
        then(kind, value);
        attributes = attributes.get_mut(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn clean(name: &mut [u8]) {
    if std::str::from_utf8(name).is_err() {
        name.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
}
