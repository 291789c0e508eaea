// graphile-worker, in the settings that its documentation recommends for high throughput. One command a run; one line of JSON as the answer.
//   install | preload N | enqueue N GAP_MS | drain WARM_UP N | listen N | idle SECONDS | sustain SECONDS ROUND
// The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [command, ...numbers] = process.argv.slice(2);
const [first, second] = numbers.map(Number);
const logger = new Logger(() => () => {});
const pool = new pg.Pool({ max: 10 });
pool.on("error", () => {});
pool.on("connect", (client) => client.on("error", () => {}));
const answer = (value) => console.log(JSON.stringify(value));
const monotonic = () => Number(process.hrtime.bigint() / 1000n);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const fast = {
  worker: {
    concurrentJobs: 24,
    maxPoolSize: 10,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

async function start(preset, noop) {
  return run({ pgPool: pool, preset, taskList: { noop }, logger, noHandleSignals: true });
}

async function install() {
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  await utils.release();
}

const addJobs = (from, to) =>
  pool.query(
    `select count(*) from graphile_worker.add_jobs(array(
       select json_populate_record(null::graphile_worker.job_spec, json_build_object('identifier', 'noop', 'payload', json_build_object('id', n)))
       from generate_series($1::int, $2::int) as n))`,
    [from, to],
  );

async function untilEmpty() {
  for (;;) {
    const { rows } = await pool.query("select exists (select from graphile_worker._private_jobs) as some");
    if (!rows[0].some) return;
    await sleep(5);
  }
}

switch (command) {
  case "install": {
    await install();
    answer({});
    break;
  }

  case "preload": {
    await install();
    const started = monotonic();
    for (let from = 0; from < first; from += 10000) await addJobs(from + 1, Math.min(from + 10000, first));
    answer({ seconds: (monotonic() - started) / 1e6 });
    break;
  }

  case "enqueue": {
    const sent = [];
    for (let n = 0; n < first; n++) {
      await pool.query("select graphile_worker.add_job('noop', json_build_object('id', $1::int))", [n]);
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
    const runner = await start(fast, () => {
      if (--left === second) started = monotonic();
      if (left === 0) finished();
    });
    await all;
    await untilEmpty();
    answer({ seconds: (monotonic() - started) / 1e6, peakMb: process.resourceUsage().maxRSS / 1024 });
    await runner.stop();
    break;
  }

  case "listen": {
    const began = new Array(first).fill(0);
    let left = first;
    let finished;
    const all = new Promise((resolve) => (finished = resolve));
    // Without the local queue: it trades latency for throughput.
    const runner = await start({ worker: { concurrentJobs: 10, maxPoolSize: 10 } }, (payload) => {
      began[payload.id] = monotonic();
      if (--left === 0) finished();
    });
    console.log("ready");
    await all;
    answer({ began });
    await runner.stop();
    break;
  }

  case "idle": {
    const runner = await start(fast, () => {});
    await sleep(2000);
    const before = process.cpuUsage();
    console.log("ready");
    await sleep(first * 1000);
    const used = process.cpuUsage(before);
    answer({ cpuSeconds: (used.user + used.system) / 1e6 });
    await runner.stop();
    break;
  }

  case "sustain": {
    await install();
    let left = 0;
    let finished;
    const runner = await start(fast, () => {
      if (--left === 0) finished();
    });
    console.log("ready");
    const began = monotonic();
    const done = [];
    for (let at = 0; at < first; at = (monotonic() - began) / 1e6) {
      left = second;
      const round = new Promise((resolve) => (finished = resolve));
      await addJobs(1, second);
      await round;
      const bucket = Math.floor((monotonic() - began) / 1e7);
      done[bucket] = (done[bucket] ?? 0) + second;
    }
    answer({ done: Array.from(done, (each) => each ?? 0) });
    await runner.stop();
    break;
  }

  default:
    throw new Error(`unknown command ${command}`);
}

await pool.end();
process.exit(0);
