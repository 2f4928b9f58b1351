"""A small GitHub on loopback for the bench scripts: one repository in memory, with answers that can be asked for again for free.

Each answer takes it less than a millisecond, its log has the time of every call, it answers 304 where nothing has changed, and it fails
where it is told to: the stateful emulator of the tests does none of that. It knows what the orchestra asks for and nothing else: any
other call is answered 404 and listed. `Emulator` is the emulator of the tests, for what is measured against that.
"""

import hashlib
import http.client
import json
import random
import re
import subprocess
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PROJECT = Path(__file__).resolve().parent.parent
SLUG = "octo/app"
BOT = "miyabi-bot"
LABEL = "auto-code"
PAGE = 100
TEXT = "The command prints a greeting, but it should name who it greets. " * 20
"""The text of an issue: some 1,300 bytes, as issues have them."""


def instant():
    """Returns the time as GitHub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Hub:
    """The server. Lists are guarded by one lock; the log has every call with its time and its answer."""

    def __init__(self, remote=None, failing=0.0, seed=1):
        self.lock = threading.RLock()
        self.issues, self.comments, self.pulls, self.statuses = {}, {}, {}, []
        self.log, self.unknown = [], set()
        self.remote, self.failing, self.random = remote, failing, random.Random(seed)
        self.last_id = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next_id(self):
        self.last_id += 1
        return self.last_id

    def open_issue(self):
        """Opens an issue with the label, by its owner; returns its number."""
        with self.lock:
            number = self.next_id()
            self.issues[number] = {
                "number": number, "title": f"Greet by name, part {number}", "body": f"{TEXT}\nPart {number}.",
                "state": "open", "labels": [{"name": LABEL}], "assignees": [], "user": {"login": "alice", "type": "User"},
                "author_association": "OWNER", "created_at": instant(), "updated_at": instant(),
                "issue_dependencies_summary": {"blocked_by": 0}, "sub_issues_summary": {"total": 0, "completed": 0},
            }
            return number

    def head_of(self, branch):
        """Returns the newest commit of a branch of the remote."""
        if self.remote is None:
            return "0" * 40
        done = subprocess.run(
            ["git", "--git-dir", str(self.remote), "rev-parse", f"refs/heads/{branch}"],
            capture_output=True, text=True, check=False,
        )
        return done.stdout.strip() or "0" * 40

    def merge(self, number):
        """Plays the human: merges a pull request in the remote and closes its issue."""
        with self.lock:
            pull = self.pulls[number]
            branch, title = pull["head"]["ref"], pull["title"]

        def git(*arguments):
            done = subprocess.run(
                ["git", "--git-dir", str(self.remote), "-c", "user.name=Alice", "-c", "user.email=alice@example.invalid",
                 *arguments],
                capture_output=True, text=True, check=True,
            )
            return done.stdout.strip()

        main, ours = git("rev-parse", "refs/heads/main"), git("rev-parse", f"refs/heads/{branch}")
        tree = git("merge-tree", "--write-tree", main, ours).splitlines()[0]
        commit = git("commit-tree", tree, "-p", main, "-p", ours, "-m", f"Merge {title}")
        git("update-ref", "refs/heads/main", commit, main)
        with self.lock:
            now = instant()
            pull.update(state="closed", merged_at=now, merge_commit_sha=commit)
            issue = self.issues[int(branch.rpartition("-")[2])]
            issue.update(state="closed", updated_at=now)

    def answer(self, method, path, query, body):
        """Returns the status and what is answered; a list is cut into pages by whoever sends it."""
        parts = path.removeprefix(f"/repos/{SLUG}").strip("/").split("/")
        if path == "/user":
            return 200, {"login": BOT, "type": "User"}
        for pattern, do in ROUTES:
            found = re.fullmatch(pattern, f"{method} {'/'.join(parts)}")
            if found:
                return do(self, found, query, body)
        self.unknown.add(f"{method} {path}")
        return 404, {"message": "Not Found"}

    # What can be asked for.

    def _issues(self, _, query, __):
        if "since" in query:
            found = [it for it in self.issues.values() if it["updated_at"] >= query["since"][0]]
            return 200, sorted(found, key=lambda it: it["updated_at"])
        wanted = query.get("labels", [""])[0]
        labelled = lambda it: any(label["name"] == wanted for label in it["labels"])
        return 200, [it for it in self.issues.values() if it["state"] == "open" and labelled(it)]

    def _issue(self, found, _, __):
        issue = self.issues.get(int(found[1]))
        return (200, issue) if issue else (404, {"message": "Not Found"})

    def _all_comments(self, _, query, __):
        since = query.get("since", [""])[0]
        found = [it for it in self.comments.values() if it["updated_at"] >= since]
        return 200, sorted(found, key=lambda it: it["updated_at"])

    def _comments(self, found, _, __):
        url = f"{self.address}/repos/{SLUG}/issues/{found[1]}"
        return 200, [it for it in self.comments.values() if it["issue_url"] == url]

    def _make_comment(self, found, _, body):
        number = self.next_id()
        comment = {
            "id": number, "body": body["body"], "user": {"login": BOT, "type": "User"}, "updated_at": instant(),
            "author_association": "COLLABORATOR", "issue_url": f"{self.address}/repos/{SLUG}/issues/{found[1]}",
        }
        self.comments[number] = comment
        self._touch(int(found[1]))
        return 201, comment

    def _edit_comment(self, found, _, body):
        comment = self.comments.get(int(found[1]))
        if comment is None:
            return 404, {"message": "Not Found"}
        comment.update(body=body["body"], updated_at=instant())
        self._touch(int(comment["issue_url"].rpartition("/")[2]))
        return 200, comment

    def _delete_comment(self, found, _, __):
        return (204, None) if self.comments.pop(int(found[1]), None) else (404, {"message": "Not Found"})

    def _label(self, found, _, body):
        issue = self.issues[int(found[1])]
        known = {label["name"] for label in issue["labels"]}
        issue["labels"] += [{"name": name} for name in body["labels"] if name not in known]
        self._touch(issue["number"])
        return 200, issue["labels"]

    def _unlabel(self, found, _, __):
        issue, name = self.issues[int(found[1])], unquote(found[2])
        if all(label["name"] != name for label in issue["labels"]):
            return 404, {"message": "Label does not exist"}
        issue["labels"] = [label for label in issue["labels"] if label["name"] != name]
        self._touch(issue["number"])
        return 200, issue["labels"]

    def _touch(self, number):
        self.issues[number]["updated_at"] = instant()

    def _pulls(self, _, query, __):
        branch = query.get("head", [":"])[0].partition(":")[2]
        return 200, [self._seen(it) for it in self.pulls.values() if it["head"]["ref"] == branch]

    def _pull(self, found, _, __):
        pull = self.pulls.get(int(found[1]))
        return (200, self._seen(pull)) if pull else (404, {"message": "Not Found"})

    def _seen(self, pull):
        if pull["state"] == "open":
            pull["head"]["sha"] = self.head_of(pull["head"]["ref"])
        return pull

    def _make_pull(self, _, __, body):
        if any(it["head"]["ref"] == body["head"] and it["state"] == "open" for it in self.pulls.values()):
            return 422, {"message": "A pull request already exists"}
        number = self.next_id()
        self.pulls[number] = {
            "number": number, "html_url": f"{self.address}/{SLUG}/pull/{number}", "state": "open", "merged_at": None,
            "merge_commit_sha": None, "user": {"login": BOT, "type": "User"}, "title": body["title"], "body": body["body"],
            "head": {"ref": body["head"], "sha": self.head_of(body["head"])}, "base": {"ref": body["base"]},
        }
        return 201, self.pulls[number]

    def _edit_pull(self, found, _, body):
        pull = self.pulls[int(found[1])]
        pull.update(body)
        return 200, pull

    def _nothing(self, *_):
        return 200, []

    def _status(self, found, _, body):
        self.statuses.append(found[1])
        return 201, body


ROUTES = [
    (r"GET issues", Hub._issues),
    (r"GET issues/(\d+)", Hub._issue),
    (r"GET issues/comments", Hub._all_comments),
    (r"GET issues/(\d+)/comments", Hub._comments),
    (r"POST issues/(\d+)/comments", Hub._make_comment),
    (r"PATCH issues/comments/(\d+)", Hub._edit_comment),
    (r"DELETE issues/comments/(\d+)", Hub._delete_comment),
    (r"POST issues/(\d+)/labels", Hub._label),
    (r"DELETE issues/(\d+)/labels/(.+)", Hub._unlabel),
    (r"GET pulls", Hub._pulls),
    (r"GET pulls/(\d+)", Hub._pull),
    (r"POST pulls", Hub._make_pull),
    (r"PATCH pulls/(\d+)", Hub._edit_pull),
    (r"GET pulls/(\d+)/reviews", Hub._nothing),
    (r"POST statuses/([0-9a-f]+)", Hub._status),
]


class Emulator:
    """The stateful GitHub of the tests; without webhooks, 304 and a log."""

    LIBRARY = PROJECT / ".tools/node_modules/emulate/dist/api.js"
    SLUG = "alice/app"
    TOKEN = "token-of-the-bot"

    def __init__(self):
        self.process = subprocess.Popen(
            ["node", str(PROJECT / "tests/it/daemon/github/emulator.mjs"), str(self.LIBRARY)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.address = self.process.stdout.readline().strip()
        self.remote = None
        self.ask("alice", "PUT", f"/repos/{self.SLUG}/collaborators/{BOT}", {"permission": "push"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, who, method, path, body):
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        headers = {"authorization": f"Bearer token-of-{who}", "content-type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status >= 300:
            raise SystemExit(f"the emulator answers {answer.status} to {method} {path}")

    def open_issues(self, count):
        """Opens issues with the label, by two collaborators: nobody may call more than 5,000 times an hour."""
        for number in range(count):
            who = "alice" if number % 2 else "the-bot"
            issue = {"title": f"Greet by name, part {number}", "body": f"{TEXT}\nPart {number}.", "labels": [LABEL]}
            self.ask(who, "POST", f"/repos/{self.SLUG}/issues", issue)


class _Handler(BaseHTTPRequestHandler):
    """One connection, which stays open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub = None

    def log_message(self, *_):
        """Says nothing: the hub has a log of its own."""

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            # A supervisor that is killed says no goodbye.
            self.close_connection = True

    def handle_one(self):
        began = time.monotonic()
        address = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        query = parse_qs(address.query)
        hub = self.hub
        with hub.lock:
            fails = hub.failing and hub.random.random() < hub.failing
            # Half of what fails was done before.
            if fails and hub.random.random() < 0.5:
                hub.answer(self.command, address.path, query, body)
            status, found = (502, {"message": "Server Error"}) if fails else hub.answer(
                self.command, address.path, query, body)
            headers = []
            if isinstance(found, list) and self.command == "GET":
                page = int(query.get("page", ["1"])[0])
                if len(found) > page * PAGE:
                    rest = re.sub(r"&page=\d+", "", self.path)
                    headers.append(f'Link: <{hub.address}{rest}&page={page + 1}>; rel="next"')
                found = found[(page - 1) * PAGE:page * PAGE]
            text = b"" if found is None else json.dumps(found).encode()
        if self.command == "GET" and status == 200:
            tag = f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
            headers.append(f"ETag: {tag}")
            if self.headers.get("if-none-match") == tag:
                status, text = 304, b""
        head = [f"HTTP/1.1 {status} X", f"Date: {formatdate(usegmt=True)}", f"Content-Length: {len(text)}", *headers]
        self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + text)
        with hub.lock:
            hub.log.append((began, time.monotonic(), self.command, self.path, status))

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_one
