// pg-boss, fetching batches and woken by NOTIFY. One command a run; one line of JSON as the answer.
//   preload N | enqueue N GAP_MS | drain WARM_UP N | listen N | idle SECONDS
// The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE.
import { PgBoss } from "pg-boss";

const [command, ...numbers] = process.argv.slice(2);
const [first, second] = numbers.map(Number);
const answer = (value) => console.log(JSON.stringify(value));
const monotonic = () => Number(process.hrtime.bigint() / 1000n);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const { PGHOST: host, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = process.env;
const boss = new PgBoss({ host, user, password, database, port: Number(process.env.PGPORT), max: 10, useListenNotify: true });
boss.on("error", () => {});
await boss.start();
await boss.createQueue("noop", { notify: true });

async function untilEmpty() {
  for (;;) {
    const { rows } = await boss.getDb().executeSql("select exists (select from pgboss.job where name = 'noop' and state < 'completed') as some");
    if (!rows[0].some) return;
    await sleep(5);
  }
}

const work = (batchSize, each) =>
  boss.work("noop", { batchSize, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true }, async (jobs) => {
    for (const job of jobs) each(job.data);
  });

switch (command) {
  case "preload": {
    const started = monotonic();
    for (let from = 0; from < first; from += 1000) {
      const many = Array.from({ length: Math.min(1000, first - from) }, (_, n) => ({ data: { id: from + n } }));
      await boss.insert("noop", many);
    }
    answer({ seconds: (monotonic() - started) / 1e6 });
    break;
  }

  case "enqueue": {
    const sent = [];
    for (let n = 0; n < first; n++) {
      await boss.send("noop", { id: n });
      sent.push(monotonic());
      await sleep(second);
    }
    answer({ sent });
    break;
  }

  case "drain": {
    let left = first + second;
    let finished;
    const all = new Promise((resolve) => (finished = resolve));
    let started = monotonic();
    await work(1000, () => {
      if (--left === second) started = monotonic();
      if (left === 0) finished();
    });
    await all;
    await untilEmpty();
    answer({ seconds: (monotonic() - started) / 1e6, peakMb: process.resourceUsage().maxRSS / 1024 });
    break;
  }

  case "listen": {
    const began = new Array(first).fill(0);
    let left = first;
    let finished;
    const all = new Promise((resolve) => (finished = resolve));
    await work(1, (data) => {
      began[data.id] = monotonic();
      if (--left === 0) finished();
    });
    console.log("ready");
    await all;
    answer({ began });
    break;
  }

  case "idle": {
    await work(1000, () => {});
    await sleep(2000);
    const before = process.cpuUsage();
    console.log("ready");
    await sleep(first * 1000);
    const used = process.cpuUsage(before);
    answer({ cpuSeconds: (used.user + used.system) / 1e6 });
    break;
  }

  default:
    throw new Error(`unknown command ${command}`);
}

process.exit(0);
