// Lines of JSON: {"do": verb, …} is answered by {"ok": result} or {"error": text}. See child.py.
import { createInterface } from "node:readline";

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

export const tell = (event, more) => say({ event, ...more });

// Until the input ends; `open` makes the verbs, and what it throws answers every call.
export async function answer(open) {
  const opened = open().catch((error) => ({ failed: error }));
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: verb, ...given } = JSON.parse(line);
    try {
      const verbs = await opened;
      if (verbs.failed) throw verbs.failed;
      say({ ok: (await verbs[verb](given)) ?? null });
    } catch (error) {
      say({ error: [error.name, error.reason ?? error.message].filter(Boolean).join(": ") });
    }
  }
  const verbs = await opened;
  if (verbs.close) await verbs.close();
  process.exit(0);
}
