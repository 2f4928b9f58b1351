#!/usr/bin/env python3
"""Takes part in a miyabi spool with nothing but renames; needs no supervisor and no packages.

    agent.py serve  SPOOL/MAILBOX NAME COMMAND...   hands every waiting message to COMMAND on its standard input
    agent.py answer SPOOL/MAILBOX NAME COMMAND...   the same, and sends what COMMAND prints back as the answer
    agent.py send   SPOOL/MAILBOX NAME TEXT         sends a message and prints its id

The protocol is explained in docs/spool.md.
"""

import datetime
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time

LEASE_SECONDS = 300
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def lease(mailbox, holder):
    """Takes the first envelope that waits and has not expired; returns its receipt and content, or None."""
    for name in sorted(os.listdir(f"{mailbox}/new")):
        if name.startswith("."):
            continue
        until = int((time.time() + LEASE_SECONDS) * 1000)
        receipt = f"{name}~{holder}~{until:013}"
        try:
            os.rename(f"{mailbox}/new/{name}", f"{mailbox}/leased/{receipt}")
        except FileNotFoundError:
            continue  # somebody was quicker
        with open(f"{mailbox}/leased/{receipt}", "rb") as file:
            line, checksum = file.readline(), file.readline()
        if checksum != b"sha256:%s\n" % hashlib.sha256(line).hexdigest().encode():
            continue  # torn: whoever leases with miyabi sets it aside when our lease has ended
        envelope = json.loads(line)
        if "expires_at" in envelope and envelope["expires_at"] <= timestamp(time.time()):
            continue  # of no use any more: the same
        return receipt, envelope
    return None


def ack(mailbox, receipt):
    """Acknowledges; says whether the lease was still ours."""
    try:
        os.rename(f"{mailbox}/leased/{receipt}", f"{mailbox}/done/{receipt}")
    except FileNotFoundError:
        return False
    sync_folder(f"{mailbox}/done")
    return True


def timestamp(seconds):
    """Writes a time as envelopes have it; such texts sort by time."""
    time_of = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return time_of.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def send(mailbox, sender, body, priority=3, **more):
    """Delivers a message; it is on the disk when this returns. `more`: reply_to, thread, expires_at."""
    now = time.time()
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    identity = "".join(CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
    envelope = {
        "schema": "envelope@1",
        "id": identity,
        "kind": "message",
        "from": sender,
        "to": os.path.basename(os.path.normpath(mailbox)),
        "priority": priority,
        "sent_at": timestamp(now),
        "body": body,
        **more,
    }
    line = json.dumps(envelope, ensure_ascii=False).encode() + b"\n"
    draft = f"{mailbox}/tmp/{identity}.{os.getpid()}"
    with open(draft, "xb") as file:
        file.write(line + b"sha256:%s\n" % hashlib.sha256(line).hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, f"{mailbox}/new/{priority}-{identity}-a1")
    sync_folder(f"{mailbox}/new")
    return identity


def answer(mailbox, name, envelope, text):
    """Answers a message: in the mailbox of its sender, in the same conversation."""
    to = os.path.join(os.path.dirname(os.path.normpath(mailbox)), envelope["from"])
    more = {"thread": envelope["thread"]} if "thread" in envelope else {}
    return send(to, name, text, envelope["priority"], reply_to=envelope["id"], **more)


def sync_folder(path):
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def main():
    verb, mailbox, name, *rest = sys.argv[1:]
    if verb == "send":
        print(send(mailbox, name, {"text": " ".join(rest)}))
        return
    while taken := lease(mailbox, f"{name}.0"):
        receipt, envelope = taken
        output = subprocess.PIPE if verb == "answer" else None
        done = subprocess.run(rest, input=json.dumps(envelope) + "\n", stdout=output, text=True, check=False)
        if done.returncode == 0:
            if verb == "answer":
                answer(mailbox, name, envelope, done.stdout)
            ack(mailbox, receipt)


if __name__ == "__main__":
    main()
