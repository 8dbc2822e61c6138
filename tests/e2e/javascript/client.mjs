// Pushes images and searches for them, knowing nothing but the files in proto/.
//
// node client.mjs PROTO_FOLDER REDIS_URL QUERY GALLERY CAPTION IMAGE...
//
// Prints the hits as JSON. Run by tests/e2e/test_javascript.py.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { createClient } from "@redis/client";

const [protoFolder, redisUrl, query, gallery, caption, ...files] = process.argv.slice(2);
const DEADLINE_MS = 60_000;

async function push(images) {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) =>
    target.startsWith("google/protobuf/") ? target : path.resolve(protoFolder, target);
  await root.load("passerby/v1/queue.proto");
  const ImageBatch = root.lookupType("passerby.v1.ImageBatch");
  const batch = ImageBatch.encode(ImageBatch.create({ gallery, images })).finish();

  const redis = createClient({ url: redisUrl });
  await redis.connect();
  await redis.xAdd("passerby:ingest", "*", { batch: Buffer.from(batch) });
  const deadline = Date.now() + DEADLINE_MS;
  while ((await redis.xLen("passerby:ingest")) > 0) {
    if (Date.now() > deadline) throw new Error("not indexed in time");
    await setTimeout(50);
  }
  await redis.close();
}

async function search() {
  const definition = await protoLoader.load("passerby/v1/search.proto", {
    includeDirs: [protoFolder],
    keepCase: true,
    longs: Number,
  });
  const { Search } = grpc.loadPackageDefinition(definition).passerby.v1;
  const client = new Search(query, grpc.credentials.createInsecure());
  const answer = await new Promise((resolve, reject) =>
    client.Search(
      { gallery, caption, filter: { cameras: ["javascript"] } },
      { deadline: Date.now() + DEADLINE_MS },
      (error, response) => (error ? reject(error) : resolve(response)),
    ),
  );
  client.close();
  return answer.hits;
}

await push(
  await Promise.all(
    files.map(async (file) => ({
      filename: path.basename(file),
      data: await readFile(file),
      camera: "javascript",
      capturedAt: { seconds: 1_777_636_800 },
      tags: { "written by": "protobufjs" },
    })),
  ),
);
console.log(JSON.stringify(await search()));
