//! A netlink socket that never takes silence for success: every request is answered or times out, a dump that the kernel cut
//! short is read again, and an error carries the kernel's own text (extended ACK).
//!
//! Why not rtnetlink's own `execute()`: it can return Ok when nothing happened, and sends one message a system call
//! (docs/decisions/0003). The message types and the socket are rtnetlink's.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    },
    sys::{
        Socket as NetlinkSocket,
        protocols::{NETLINK_GENERIC, NETLINK_ROUTE},
    },
};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendFlags, netdevice::name_to_index, sockopt},
};

use super::text;
use crate::sys::fault;

/// How long the kernel may take for one answer. It answers at once, but RTNL can be held by others (thousands of links going).
const ANSWER: Duration = Duration::from_secs(30);
/// Answers are parsed from one buffer; the kernel's dump buffers are 32 KiB at most (`netlink_dump`), single messages less.
const BUFFER: usize = 32 * 1024;
/// A dump that others disturb (`NLM_F_DUMP_INTR`) is read again this often. Under constant churn nearly every dump of all links
/// is disturbed; the last one is taken, it lacks no link that was there before and after.
const DUMP_TRIES: usize = 5;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;

/// The kernel's refusal of one request, with its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    /// The extended ACK's text, empty where the kernel gives none.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno.raw_os_error());
        if self.text.is_empty() { write!(f, "kernel: {error}") } else { write!(f, "kernel: {}: {error}", self.text) }
    }
}

impl std::error::Error for Refusal {}

/// Requests that go to the kernel in one system call. `T` tells what each of them is for.
#[derive(Debug)]
pub struct Batch<T> {
    bytes: Vec<u8>,
    /// What each message is for, and where it begins.
    parts: Vec<(T, usize)>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), parts: Vec::new() }
    }
}

impl<T> Batch<T> {
    /// Adds a request; `flags` beside `NLM_F_REQUEST`.
    pub fn push(&mut self, what: T, message: impl NetlinkSerializable, flags: u16) {
        let at = self.bytes.len();
        append(&mut self.bytes, message, NLM_F_REQUEST | flags);
        self.parts.push((what, at));
    }

    /// What the requests are for.
    #[must_use]
    pub fn whats(&self) -> impl ExactSizeIterator<Item = &T> {
        self.parts.iter().map(|(what, _)| what)
    }
}

fn append(bytes: &mut Vec<u8>, message: impl NetlinkSerializable, flags: u16) {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
    message.header.flags = flags;
    message.finalize();
    let at = bytes.len();
    // every message begins at a multiple of four (NLMSG_ALIGNTO)
    bytes.resize(at + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[at..]);
}

/// A socket in the network namespace of the thread that opened it; it stays there wherever it is used.
#[derive(Debug)]
pub struct Socket {
    inner: NetlinkSocket,
    sequence: u32,
    /// Not written to before the kernel does: most answers are short, and each page that is touched costs time.
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace: rtnetlink(7).
    pub fn open() -> Result<Self> {
        Self::of(NETLINK_ROUTE)
    }

    /// Opens a socket for generic netlink, where families of messages have numbers that the running kernel gives them.
    pub fn generic() -> Result<Self> {
        Self::of(NETLINK_GENERIC)
    }

    fn of(protocol: isize) -> Result<Self> {
        let open = || -> io::Result<NetlinkSocket> {
            let socket = fault::look(format_args!("open a netlink socket"), || NetlinkSocket::new(protocol))?;
            // the texts are a help, not a need: kernels before 4.12 do without
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER))?;
            Ok(socket)
        };
        Ok(Self { inner: open().context("failed to open a netlink socket")?, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends all requests in as few system calls as they fit in and waits until the kernel has answered the last. The errors are
    /// those requests that the kernel refused; the others were done.
    ///
    /// Only the last message of a call asks for an ACK: the kernel works them off in order and reports each failure in any case.
    pub fn request<T>(&mut self, mut batch: Batch<T>) -> Result<Vec<(T, Refusal)>> {
        // An answer to a refused request takes about 100 bytes of text, and all of them have to fit into the receive buffer
        // (212,992 bytes, every answer counted as 768 or more); the send buffer has the same size.
        const MESSAGES: usize = 128;
        const BYTES: usize = 64 * 1024;
        let mut refused = Vec::new();
        let mut parts = std::mem::take(&mut batch.parts).into_iter().peekable();
        let mut end = 0;
        while parts.peek().is_some() {
            let (begin, first) = (end, self.sequence.wrapping_add(1));
            let mut sent = Vec::new();
            while let Some((what, at)) = parts.next_if(|(_, at)| sent.len() < MESSAGES && (sent.is_empty() || at - begin < BYTES)) {
                self.sequence = self.sequence.wrapping_add(1);
                let next = parts.peek().map_or(batch.bytes.len(), |(_, at)| *at);
                batch.bytes[at + 8..at + 12].copy_from_slice(&self.sequence.to_ne_bytes());
                let last = sent.len() + 1 == MESSAGES || parts.peek().is_none_or(|(_, next)| next - begin >= BYTES);
                if last {
                    let flags = u16::from_ne_bytes([batch.bytes[at + 6], batch.bytes[at + 7]]) | NLM_F_ACK;
                    batch.bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
                }
                sent.push(Some(what));
                end = next;
            }
            let fault = fault::batch(&mut batch.bytes[begin..end], |bytes| self.send(bytes))?;
            let fault = fault.map(|(sequence, errno)| (sequence, Refusal { errno, text: String::new() }));
            for (sequence, refusal) in fault.into_iter().chain(self.answers(self.sequence)?) {
                let index = sequence.wrapping_sub(first) as usize;
                if let Some(what) = sent.get_mut(index).and_then(Option::take) {
                    refused.push((what, refusal));
                }
            }
        }
        Ok(refused)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = loop {
            match fault::look(format_args!("send"), || rustix::net::send(&self.inner, bytes, SendFlags::empty())) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        match sent {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(n) => bail!("failed to send netlink requests: {n} of {} bytes taken", bytes.len()),
            Err(e) => Err(io::Error::from(e)).context("failed to send netlink requests"),
        }
    }

    /// Receives what the kernel has put together into the buffer.
    fn receive(&mut self) -> Result<()> {
        loop {
            self.buffer.clear();
            let receive = || rustix::net::recv(&self.inner, spare_capacity(&mut self.buffer), RecvFlags::TRUNC);
            match fault::look(format_args!("receive"), receive) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => bail!("the kernel did not answer a netlink request within {} s", ANSWER.as_secs()),
                Err(e) => return Err(io::Error::from(e)).context("failed to receive a netlink answer"),
                // MSG_TRUNC: the length is the message's own, also where it did not fit
                Ok((_, n)) if n > self.buffer.len() => bail!("a netlink answer of {n} bytes is larger than the buffer"),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Reads answers until the one to request `last`; gives the refusals.
    fn answers(&mut self, last: u32) -> Result<Vec<(u32, Refusal)>> {
        let mut refusals = Vec::new();
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                let message = message?;
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                if let Some(refusal) = message.refusal()? {
                    refusals.push((message.sequence, refusal));
                }
                if message.sequence == last {
                    return Ok(refusals);
                }
            }
        }
    }

    /// Asks for one object; none where the kernel says that there is no such thing.
    pub fn get<M: NetlinkSerializable + NetlinkDeserializable>(&mut self, request: M) -> Result<Result<M, Refusal>> {
        if let Err(errno) = fault::question(format_args!("get"), || Ok(())) {
            return Ok(Err(Refusal { errno, text: String::new() }));
        }
        let mut bytes = Vec::new();
        append(&mut bytes, request, NLM_F_REQUEST);
        self.sequence = self.sequence.wrapping_add(1);
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.send(&bytes)?;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                return Ok(match message.refusal()? {
                    Some(refusal) => Err(refusal),
                    None => Ok(message.parse()?),
                });
            }
        }
    }

    /// Finds the index of a link by its name; none if there is no such link. The kernel answers this without RTNL.
    pub fn index_of(&self, name: &str) -> Result<Option<u32>> {
        match fault::question(format_args!("get"), || name_to_index(&self.inner, name)) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Refusal { errno, text: String::new() }).with_context(|| format!("failed to look up link '{name}'")),
        }
    }

    /// Makes the kernel take the attributes of a dump's request for a filter (`NETLINK_GET_STRICT_CHK`), if it can.
    pub fn set_filter(&mut self, on: bool) {
        let _ = self.inner.set_netlink_get_strict_chk(on);
    }

    /// Reads all objects of a kind, again if they changed meanwhile.
    pub fn dump<M: NetlinkSerializable + NetlinkDeserializable + Clone>(&mut self, request: &M) -> Result<Vec<M>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (objects, disturbed) = self.dump_once(request.clone())?;
            if !disturbed || tries == DUMP_TRIES {
                return Ok(objects);
            }
        }
    }

    fn dump_once<M: NetlinkSerializable + NetlinkDeserializable>(&mut self, request: M) -> Result<(Vec<M>, bool)> {
        if let Err(errno) = fault::question(format_args!("dump"), || Ok(())) {
            return Err(Refusal { errno, text: String::new() }).context("failed to read from the kernel");
        }
        let mut bytes = Vec::new();
        append(&mut bytes, request, NLM_F_REQUEST | NLM_F_DUMP);
        self.sequence = self.sequence.wrapping_add(1);
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.send(&bytes)?;
        let (mut objects, mut disturbed) = (Vec::new(), fault::disturbs());
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
                if let Some(refusal) = message.refusal()? {
                    return Err(refusal).context("failed to read from the kernel");
                }
                if message.kind == NLMSG_DONE {
                    return Ok((objects, disturbed));
                }
                objects.push(message.parse()?);
            }
        }
    }
}

/// A socket on which the kernel tells of changes.
#[derive(Debug)]
pub struct Monitor {
    inner: NetlinkSocket,
}

impl Monitor {
    /// Subscribes to multicast groups (`RTNLGRP_…`) of the calling thread's network namespace.
    pub fn open(groups: &[u32]) -> Result<Self> {
        let open = || -> io::Result<NetlinkSocket> {
            let mut socket = fault::look(format_args!("open a netlink monitor"), || NetlinkSocket::new(NETLINK_ROUTE))?;
            socket.bind_auto()?;
            for group in groups {
                socket.add_membership(*group)?;
            }
            Ok(socket)
        };
        Ok(Self { inner: open().context("failed to open a netlink monitor")? })
    }

    /// Waits until one of the monitors has something to say or the deadline has passed, and drops what was said: the caller
    /// looks again, which is right also after an overrun (`ENOBUFS`). False means that the deadline has passed.
    pub fn wait(monitors: &[&Self], deadline: Instant) -> Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let mut fds: Vec<PollFd> = monitors.iter().map(|m| PollFd::new(&m.inner, PollFlags::IN)).collect();
        match fault::look(format_args!("poll"), || poll(&mut fds, Some(&timeout))) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e)).context("failed to wait for netlink events"),
        }
        let mut sink = [0; 8192];
        for monitor in monitors {
            loop {
                match fault::look(format_args!("receive events"), || rustix::net::recv(&monitor.inner, &mut sink[..], RecvFlags::DONTWAIT))
                {
                    Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(e) => return Err(io::Error::from(e)).context("failed to receive netlink events"),
                }
            }
        }
        Ok(true)
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// The whole message, header included.
    bytes: &'a [u8],
}

impl Message<'_> {
    /// The error that the message carries: none for an ACK, for the end of a dump that went well, and for an object.
    fn refusal(&self) -> Result<Option<Refusal>> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return Ok(None);
        }
        let payload = &self.bytes[HEADER..];
        let Some(code) = payload.first_chunk::<4>().map(|c| i32::from_ne_bytes(*c)) else {
            // the kernel may end a dump with an empty NLMSG_DONE
            if self.kind == NLMSG_DONE {
                return Ok(None);
            }
            bail!("the kernel sent a netlink error without a code");
        };
        if code >= 0 {
            return Ok(None);
        }
        // MAX_ERRNO of the kernel
        if code < -4095 {
            bail!("the kernel sent a netlink error with the code {code}, which cannot be");
        }
        // NLMSG_ERROR repeats the request, whole or (capped) its header, before the attributes; NLMSG_DONE does not
        let attributes = if self.kind == NLMSG_DONE {
            4
        } else if self.flags & NLM_F_CAPPED != 0 {
            4 + HEADER
        } else {
            let length = payload.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b) as usize);
            4 + length.next_multiple_of(4)
        };
        let text = if self.flags & NLM_F_ACK_TLVS != 0 { error_text(payload.get(attributes..).unwrap_or_default()) } else { String::new() };
        Ok(Some(Refusal { errno: Errno::from_raw_os_error(-code), text }))
    }

    fn parse<M: NetlinkDeserializable>(&self) -> Result<M> {
        let mut header = NetlinkHeader::default();
        header.message_type = self.kind;
        let payload = &self.bytes[HEADER..];
        let again = |error| match text::made_readable(self.kind, payload) {
            Some(payload) => M::deserialize(&header, &payload),
            None => Err(error),
        };
        M::deserialize(&header, payload)
            .or_else(again)
            .with_context(|| format!("the kernel sent a netlink message of type {} that cannot be read", self.kind))
    }
}

fn error_text(mut attributes: &[u8]) -> String {
    while let [l0, l1, t0, t1, ..] = attributes {
        let (length, kind) = (usize::from(u16::from_ne_bytes([*l0, *l1])), u16::from_ne_bytes([*t0, *t1]) & 0x3fff);
        let Some(value) = attributes.get(4..length) else { break };
        if kind == NLMSGERR_ATTR_MSG {
            return String::from_utf8_lossy(value).trim_end_matches('\0').trim_end_matches('.').to_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

/// Reads all objects that one receive brought, whatever was asked; for who plays the kernel.
pub fn objects<M: NetlinkDeserializable>(bytes: &[u8]) -> Result<Vec<M>> {
    let mut objects = Vec::new();
    for message in messages(bytes) {
        let message = message?;
        match message.refusal()? {
            Some(refusal) => return Err(refusal.into()),
            None if matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) => {}
            None => objects.push(message.parse()?),
        }
    }
    Ok(objects)
}

/// Splits what one receive brought into messages.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b));
        let half = |at: usize| bytes.get(at..at + 2).and_then(|b| b.first_chunk()).map(|b| u16::from_ne_bytes(*b));
        let (Some(length), Some(kind), Some(flags), Some(sequence)) = (word(0), half(4), half(6), word(8)) else {
            bytes = &[];
            return Some(Err(anyhow::anyhow!("the kernel sent a cut netlink message")));
        };
        let length = length as usize;
        if length < HEADER || length > bytes.len() {
            bytes = &[];
            return Some(Err(anyhow::anyhow!("the kernel sent a netlink message of {length} bytes, which cannot be")));
        }
        let message = Message { kind, flags, sequence, bytes: &bytes[..length] };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, flags: u16, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend(tail);
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_refusal_carries_the_kernels_own_text() {
        let mut attribute = Vec::new();
        attribute.extend(12u16.to_ne_bytes());
        attribute.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        attribute.extend(b"no way.\0");
        let bytes = error(-22, NLM_F_ACK_TLVS | NLM_F_CAPPED, &attribute);
        let message = messages(&bytes).next().unwrap().unwrap();
        let refusal = message.refusal().unwrap().unwrap();
        assert_eq!(refusal.to_string(), "kernel: no way: Invalid argument (os error 22)");
    }

    #[test]
    fn an_ack_is_no_refusal() {
        let bytes = error(0, NLM_F_CAPPED, &[]);
        assert_eq!(messages(&bytes).next().unwrap().unwrap().refusal().unwrap(), None);
    }

    #[test]
    fn a_lying_kernel_does_not_make_us_read_past_the_end() {
        for bytes in [&[1u8, 2, 3][..], &[255; 16], &[0; 16], &[17, 0, 0, 0, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 9]] {
            for message in messages(bytes).take(10).flatten() {
                let _ = message.refusal();
            }
        }
    }
}
