// A stateful GitHub on loopback; its first line is its address. Ends with its standard input.
import { pathToFileURL } from "node:url";

const { createEmulator } = await import(pathToFileURL(process.argv[2]).href);
const scopes = ["repo", "user"];
const server = await createEmulator({
  service: "github",
  port: 0,
  seed: {
    tokens: {
      "token-of-the-bot": { login: "miyabi-bot", scopes },
      "token-of-alice": { login: "alice", scopes },
      "token-of-mallory": { login: "mallory", scopes },
    },
    github: {
      users: [{ login: "alice" }, { login: "miyabi-bot" }, { login: "mallory" }],
      repos: [
        { owner: "alice", name: "app", auto_init: true, default_branch: "main" },
        { owner: "alice", name: "lib", auto_init: true, default_branch: "main" },
      ],
    },
  },
});
console.log(server.url);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
