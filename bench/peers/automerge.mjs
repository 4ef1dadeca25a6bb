// node automerge.mjs first_sync PATH COUNT: two repos of one process over a WebSocket on loopback, in memory.
import { Repo } from "@automerge/automerge-repo";
import { WebSocketClientAdapter, WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket";
import { WebSocketServer } from "ws";

const count = Number(process.argv[4]);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
await new Promise((listening) => server.on("listening", listening));
const network = [new WebSocketServerAdapter(server)];
const giver = new Repo({ network, peerId: "giver", sharePolicy: async () => false });
const urls = Array.from({ length: count }, (_, number) =>
  giver.create({ role: "user", text: "tea garden rain letter window bicycle ".repeat(3), timestamp: number }).url);

const begin = performance.now();
const address = `ws://127.0.0.1:${server.address().port}`;
const taker = new Repo({ network: [new WebSocketClientAdapter(address)], peerId: "taker" });
for (const handle of await Promise.all(urls.map((url) => taker.find(url)))) {
  if (!handle.doc().text) throw new Error("a document came without its text");
}
process.stdout.write(JSON.stringify({ per_s: (1000 * count) / (performance.now() - begin) }));
process.exit(0);
