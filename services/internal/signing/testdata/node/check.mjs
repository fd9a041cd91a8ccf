// Checks known answers with the Standard Webhooks library of npm (v1) and with
// Node's own crypto (v1a, sha256=). Go's tests hold our signatures to the same
// file, so what is checked here is what we send.
//
//   node check.mjs VECTORS         checks
//   node check.mjs --make VECTORS  prints the vectors of this file's own making
import assert from "node:assert";
import crypto from "node:crypto";
import fs from "node:fs";
import { Webhook } from "standardwebhooks";

// DER that stands before the 32 bytes of an ed25519 seed or public key.
const SEED = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC = Buffer.from("302a300506032b6570032100", "hex");

const pair = (seed) => {
  const key = crypto.createPrivateKey({ key: Buffer.concat([SEED, seed]), format: "der", type: "pkcs8" });
  const text = "whpk_" + crypto.createPublicKey(key).export({ format: "der", type: "spki" }).subarray(PUBLIC.length).toString("base64");
  return { key, text };
};
const publicKey = (text) => {
  assert(text.startsWith("whpk_"));
  const raw = Buffer.from(text.slice(5), "base64");
  assert.equal(raw.length, 32);
  return crypto.createPublicKey({ key: Buffer.concat([PUBLIC, raw]), format: "der", type: "spki" });
};
const signedText = (v) => Buffer.concat([Buffer.from(`${v.id}.${v.timestamp}.`), v.body]);
const devCard = (secret, body) => "sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex");
const whsec = (secret) => "whsec_" + secret.toString("base64");

function check(v) {
  const items = v.webhook_signature.split(" ");
  assert.equal(items.length, v.secrets.length + v.keys.length);
  assert.equal(v.x_devcard_signature, devCard(v.secrets[0], v.body));
  v.secrets.forEach((secret, i) => {
    const mac = crypto.createHmac("sha256", secret).update(signedText(v)).digest("base64");
    assert.equal(items[i], "v1," + mac);
    if (!v.body.equals(Buffer.from(v.body.toString()))) return; // the library takes UTF-8 alone
    const headers = { "webhook-id": v.id, "webhook-timestamp": String(v.timestamp), "webhook-signature": v.webhook_signature };
    const webhook = new Webhook(whsec(secret));
    webhook.verify(v.body, headers, { jsonParse: false });
    assert.throws(() => webhook.verify(Buffer.concat([v.body, Buffer.from(" ")]), headers, { jsonParse: false }));
    assert.throws(() => webhook.verify(v.body, { ...headers, "webhook-id": "other" }, { jsonParse: false }));
  });
  v.keys.forEach((text, i) => {
    const [version, signature] = items[v.secrets.length + i].split(",");
    assert.equal(version, "v1a");
    const raw = Buffer.from(signature, "base64");
    assert(crypto.verify(null, signedText(v), publicKey(text), raw));
    assert(!crypto.verify(null, Buffer.concat([signedText(v), Buffer.from(" ")]), publicKey(text), raw));
    if (v.seeds[i]) assert.equal(pair(v.seeds[i]).text, text);
  });
}

const secret = (c) => Buffer.from(c.repeat(32)); // 64 characters, as ours are
const seed = (n) => Buffer.alloc(32, n);
const json = Buffer.from('{"type":"card.viewed","timestamp":"2026-08-01T00:00:00Z","data":{"note":"é\u2028<>&"}}');
const own = [
  { name: "a secret and a key", secrets: [secret("1f")], seeds: [seed(7)], body: json },
  { name: "two secrets and two keys during a rotation, newest first", secrets: [secret("2e"), secret("1f")], seeds: [seed(9), seed(7)], body: json },
  { name: "a key, over an empty body", secrets: [secret("1f")], seeds: [seed(7)], body: Buffer.alloc(0) },
  { name: "a key, over bytes that are not UTF-8", secrets: [secret("1f")], seeds: [seed(7)], body: Buffer.from([0, 255, 10, 13, 46]) },
];
const make = ({ name, secrets, seeds, body }) => {
  const v = { id: "0192f0c1-2b3c-7d4e-8f50-112233445566", timestamp: 1754000003, body };
  const utf8 = body.equals(Buffer.from(body.toString()));
  return {
    name,
    source: utf8 ? "npm standardwebhooks (v1), Node's crypto" : "Node's crypto",
    id: v.id,
    timestamp: v.timestamp,
    body_base64: body.toString("base64"),
    secrets_base64: secrets.map((s) => s.toString("base64")),
    seeds_base64: seeds.map((s) => s.toString("base64")),
    public_keys: seeds.map((s) => pair(s).text),
    webhook_signature: [
      ...secrets.map((s) => utf8 ? new Webhook(whsec(s)).sign(v.id, new Date(v.timestamp * 1000), body)
        : "v1," + crypto.createHmac("sha256", s).update(signedText(v)).digest("base64")),
      ...seeds.map((s) => "v1a," + crypto.sign(null, signedText(v), pair(s).key).toString("base64")),
    ].join(" "),
    x_devcard_signature: devCard(secrets[0], body),
  };
};

if (process.argv[2] === "--make") {
  console.log(JSON.stringify(own.map(make), null, 2));
} else {
  const vectors = JSON.parse(fs.readFileSync(process.argv[2]));
  for (const raw of vectors) {
    const bytes = (list) => (list ?? []).map((s) => Buffer.from(s, "base64"));
    const v = { ...raw, body: Buffer.from(raw.body_base64, "base64"), secrets: bytes(raw.secrets_base64), seeds: bytes(raw.seeds_base64), keys: raw.public_keys ?? [] };
    Date.now = () => v.timestamp * 1000; // the library refuses what is not fresh
    try {
      check(v);
    } catch (e) {
      e.message = `${v.name}: ${e.message}`;
      throw e;
    }
  }
  assert(vectors.some((v) => v.public_keys?.length));
  console.log(`${vectors.length} known answers hold: npm standardwebhooks and Node.js ${process.version}`);
}
