#!/usr/bin/env python3
"""Tells who talks to whom. Only what Debian's python3-minimal has.

talk.py serve PORT [ADDRESS...]   answers on all addresses, or on these; for Type=notify
talk.py inherit                   answers on the sockets that systemd hands over
talk.py dns ADDRESS,... [ANSWER]  a name server that gives every name this IPv4 address, or that of who asks (192.0.2.1 over IPv6)
talk.py ask ADDRESS PORT WORDS... asks a server and prints its answer

Words: `who` (peer's address, own address, PID, inode of the network namespace), `cat FILE`, `resolve NAME`,
and `ask ADDRESS PORT WORDS...`, which the server asks in turn.
"""
import os
import socket
import sys
import threading


def ask(address, port, words, source=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        if source:
            connection.bind((source, 0))
        connection.connect((address, int(port)))
        connection.sendall((" ".join(words) + "\n").encode())
        answer = b""
        while more := connection.recv(4096):
            answer += more
    return answer.decode()


def answer(connection):
    with connection:
        connection.settimeout(10)
        words = connection.makefile().readline().split()
        try:
            text = obey(connection, words)
        except Exception as error:
            text = f"failed: {error}"
        connection.sendall((text.rstrip("\n") + "\n").encode())


def obey(connection, words):
    match words:
        case ["who"]:
            netns = os.stat("/proc/self/ns/net").st_ino
            return f"{connection.getpeername()[0]} {connection.getsockname()[0]} {os.getpid()} {netns}"
        case ["cat", path]:
            with open(path) as file:
                return file.read()
        case ["resolve", name]:
            return socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        case ["ask", address, port, *rest]:
            return ask(address, port, rest)
        case ["from", source, "ask", address, port, *rest]:
            return ask(address, port, rest, source)
    return f"failed: what is {words}?"


def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def notify():
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect("\0" + path[1:] if path.startswith("@") else path)
            manager.send(b"READY=1")


def serve(listeners):
    threads = [threading.Thread(target=accept, args=(listener,), daemon=True) for listener in listeners]
    for thread in threads:
        thread.start()
    notify()
    for thread in threads:
        thread.join()


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, int(port)))
    listener.listen(64)
    return listener


def dns(server, fixed):
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4:end - 2] == b"\0\1"
        header = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        own = "192.0.2.1" if ":" in client[0] else client[0]
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(fixed or own) if is_a else b""
        server.sendto(header + query[12:end] + record, client)


def serve_dns(addresses, fixed=None):
    threads = []
    for address in addresses.split(","):
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, 53))
        threads.append(threading.Thread(target=dns, args=(server, fixed), daemon=True))
    for thread in threads:
        thread.start()
    notify()
    for thread in threads:
        thread.join()


match sys.argv[1:]:
    case ["serve", port]:
        serve([listen(address, port) for address in ("0.0.0.0", "::")])
    case ["serve", port, *addresses]:
        serve([listen(address, port) for address in addresses])
    case ["inherit"]:
        serve([socket.socket(fileno=3 + i) for i in range(int(os.environ["LISTEN_FDS"]))])
    case ["dns", addresses, *fixed]:
        serve_dns(addresses, *fixed)
    case ["ask", address, port, *words]:
        try:
            print(ask(address, port, words), end="")
        except OSError as error:
            sys.exit(f"failed to ask {address}: {error}")
    case _:
        sys.exit(__doc__)
