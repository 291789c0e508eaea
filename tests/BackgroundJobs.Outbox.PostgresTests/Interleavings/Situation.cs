using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// Where every order begins, what the actors learned on the way, and what must be true at the end.
//   worker A, whose lease has ended though nobody has noticed, holds job `held` at its first attempt;
//   worker B is well; job `waits` is due; job `retries` has failed once and waits an hour; job `gave_up` is in the history;
//   schedule `s`, version 1, has not ticked yet;
//   job `rival` has the key of job `single`, which waits, and job `twin` a key of its own; neither was compared with others yet;
//   job `child` waits for `held`, and for one that has completed, which nobody has told it yet; job `orphan` was cancelled because `gave_up` gave up.
internal class Situation(NpgsqlConnection connection)
{
    public static readonly Guid A = new("aaaaaaaa-0000-4000-8000-000000000000");
    public static readonly Guid B = new("bbbbbbbb-0000-4000-8000-000000000000");
    public static readonly Guid Held = new("00000000-0000-7000-8000-000000000001");
    public static readonly Guid Waits = new("00000000-0000-7000-8000-000000000002");
    public static readonly Guid GaveUp = new("00000000-0000-7000-8000-000000000003");
    public static readonly Guid New = new("00000000-0000-7000-8000-000000000004");
    public static readonly Guid Retries = new("00000000-0000-7000-8000-000000000005");
    public static readonly Guid HeldToken = new("a0000000-0000-4000-8000-000000000001");

    public static readonly Guid TickedA = new("00000000-0000-7000-8000-000000000006");
    public static readonly Guid TickedB = new("00000000-0000-7000-8000-000000000007");
    public static readonly Guid Ran = new("00000000-0000-7000-8000-000000000008");
    public static readonly Guid Child = new("00000000-0000-7000-8000-000000000009");
    public static readonly Guid Late = new("00000000-0000-7000-8000-00000000000a");
    public static readonly Guid Orphan = new("00000000-0000-7000-8000-00000000000b");
    public static readonly Guid Past = new("00000000-0000-7000-8000-00000000000c");
    public static readonly Guid Single = new("00000000-0000-7000-8000-00000000000d");
    public static readonly Guid Rival = new("00000000-0000-7000-8000-00000000000e");
    public static readonly Guid Twin = new("00000000-0000-7000-8000-00000000000f");
    public static readonly Guid Second = new("00000000-0000-7000-8000-000000000010");
    public static readonly Guid Found = new("00000000-0000-7000-8000-000000000011");
    public static readonly Guid Workflow = new("f0000000-0000-7000-8000-000000000001");

    public static readonly DateTime TickAt = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc);
    public static readonly DateTime RunAt = TickAt.AddMinutes(1);
    public static readonly DateTime ChangedAt = TickAt.AddHours(-1);

    private const string Reset = """
        DELETE FROM outbox.jobs; DELETE FROM outbox.job_history; DELETE FROM outbox.workers; DELETE FROM effects;
        DELETE FROM outbox.schedules; DELETE FROM outbox.schedule_ticks; DELETE FROM outbox.job_waits; DELETE FROM outbox.unsettled_jobs;
        DELETE FROM outbox.alongside_jobs;
        INSERT INTO outbox.schedules (name, kind, every, changed_at) VALUES ('s', 'a', interval '1 hour', '2025-12-31 23:00+00');
        INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds, heartbeat_at)
        VALUES ('aaaaaaaa-0000-4000-8000-000000000000', 'a', 'h', 1, '1', interval '6 s', '{}', '{a}', now() - interval '1 hour'),
               ('bbbbbbbb-0000-4000-8000-000000000000', 'b', 'h', 1, '1', interval '1 day', '{}', '{a}', now());
        INSERT INTO outbox.jobs (id, kind, args, attempt, lease_token, worker_id, claimed_at, run_at, workflow_id)
        VALUES ('00000000-0000-7000-8000-000000000001', 'a', '{}', 1, 'a0000000-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000000', now(), now() - interval '1 s', 'f0000000-0000-7000-8000-000000000001'),
               ('00000000-0000-7000-8000-000000000002', 'a', '{}', 0, NULL, NULL, NULL, now() - interval '1 s', NULL);
        INSERT INTO outbox.jobs (id, kind, args, attempt, failures, run_at)
        VALUES ('00000000-0000-7000-8000-000000000005', 'a', '{}', 1, 1, now() + interval '1 hour');
        INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, args, workflow_id, depends_on, errors)
        VALUES ('00000000-0000-7000-8000-000000000003', now(), now(), now(), 1, 2, 20, 1, 0, 'dead', 'default', 'a', '{}', 'f0000000-0000-7000-8000-000000000002', NULL, NULL),
               ('00000000-0000-7000-8000-00000000000b', now(), now(), now(), 0, 2, 20, 0, 0, 'cancelled', 'default', 'a', '{}', 'f0000000-0000-7000-8000-000000000002',
                '{"00000000-0000-7000-8000-000000000003": "success"}', '[{"type": "parent"}]'),
               ('00000000-0000-7000-8000-00000000000c', now(), now(), now(), 1, 2, 20, 0, 0, 'completed', 'default', 'a', '{}', 'f0000000-0000-7000-8000-000000000001', NULL, NULL);
        INSERT INTO outbox.jobs (id, kind, args, priority, workflow_id, depends_on)
        VALUES ('00000000-0000-7000-8000-000000000009', 'a', '{}', -2, 'f0000000-0000-7000-8000-000000000001', '{"00000000-0000-7000-8000-000000000001": "success", "00000000-0000-7000-8000-00000000000c": "success"}');
        INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule)
        VALUES ('00000000-0000-7000-8000-00000000000d', 'a', '{}', -2, 'single', '{"rule": "waiting"}'),
               ('00000000-0000-7000-8000-00000000000e', 'a', '{}', -2, 'single', '{"rule": "waiting"}'),
               ('00000000-0000-7000-8000-00000000000f', 'a', '{}', -2, 'twins', '{"rule": "waiting"}');
        UPDATE outbox.jobs SET priority = 2 WHERE id = '00000000-0000-7000-8000-00000000000d';
        """;

    private const string OldHistory = "CREATE TABLE IF NOT EXISTS outbox.job_history_20200101 PARTITION OF outbox.job_history FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')";

    private readonly List<Guid> ended = [];
    private readonly List<Guid> claimed = [];
    private readonly Dictionary<Guid, int> lastAttempts = [];
    private bool isCancelled;

    // An attempt was ended by someone who was told that he had ended it.
    public void Ended(Guid job) => ended.Add(job);

    public void Claimed(Guid job) => claimed.Add(job);

    // From here on nobody begins another attempt of what was there.
    public void Cancelled()
    {
        isCancelled = true;
        foreach (var job in new[] { Held, Waits, Retries, Child, Single, Rival, Twin })
            lastAttempts[job] = Attempts(job);
    }

    // Taken away on an operator's wish: it need not be anywhere.
    public HashSet<Guid> Deleted { get; } = [];

    public HashSet<Guid> Enqueued { get; } = [];

    public Mutant? Mutant { get; init; }

    public virtual async Task ResetAsync(bool withOldHistory)
    {
        ended.Clear();
        claimed.Clear();
        lastAttempts.Clear();
        Deleted.Clear();
        Enqueued.Clear();
        isCancelled = false;
        await using var command = new NpgsqlCommand(withOldHistory ? Reset + OldHistory : Reset, connection);
        await command.ExecuteNonQueryAsync();
    }

    // Closing: a session for what goes on by itself when the actors have gone.
    public virtual async Task CheckAsync(Session closing)
    {
        await EmptyAsync(
            "I1: a job is in both tables, or twice in one",
            "SELECT id FROM (SELECT id FROM outbox.jobs UNION ALL SELECT id FROM outbox.job_history) AS every GROUP BY id HAVING count(*) > 1");
        await EmptyAsync(
            "I9: a job is held for a worker that is gone",
            "SELECT id FROM outbox.jobs WHERE lease_token IS NOT NULL AND NOT EXISTS (SELECT FROM outbox.workers AS worker WHERE worker.id = worker_id)");
        await EmptyAsync(
            "I13: two jobs of one key were let go",
            "SELECT unique_key FROM outbox.jobs WHERE unique_key IS NOT NULL AND priority > 0 AND attempt = 0 AND cancel_requested_at IS NULL GROUP BY unique_key HAVING count(*) > 1");
        await FinishAsync(closing);
        await EmptyAsync("I9: a job is left over that nobody will end", "SELECT concat_ws(' ', id, attempt, worker_id, cancel_requested_at) FROM outbox.jobs");
        await CheckTicksAsync();
        await EmptyAsync("I9: a dead worker is never forgotten", "SELECT id FROM outbox.workers WHERE dead_at IS NOT NULL");

        var ends = (await TextsAsync("SELECT concat_ws(' ', id, attempt, crashes, state) FROM outbox.job_history"))
            .ConvertAll(each => each.Split(' '))
            .ToDictionary(each => Guid.Parse(each[0]), each => (Attempt: int.Parse(each[1], null), Crashes: int.Parse(each[2], null), State: each[3]));
        Guid[] added = [New, Late, Second, Found];
        foreach (var job in new[] { Held, Waits, Retries, GaveUp, New, Child, Late, Orphan, Single, Rival, Twin, Second, Found })
        {
            if (!ends.TryGetValue(job, out var end))
            {
                Assert.True(Deleted.Contains(job) || (added.Contains(job) && !Enqueued.Contains(job)), $"I1: job {job} is lost");
                continue;
            }

            Assert.True(!added.Contains(job) || Enqueued.Contains(job), "I2: a job exists whose transaction was rolled back");
            Assert.True(end.Attempt == Attempts(job), $"I10: job {job} counts {end.Attempt} attempts, and there were {Attempts(job)}");
            Assert.True(!lastAttempts.TryGetValue(job, out var last) || end.Attempt <= last, $"I10: job {job} was cancelled at attempt {last}, and began another");
            var endings = ended.Count(each => each == job) + end.Crashes + (job == GaveUp || job == Retries ? 1 : 0);
            Assert.True(endings == end.Attempt, $"I4: of {end.Attempt} attempts of job {job}, {endings} were ended: two thought they had ended the same, or none did");
        }

        // Those that an operator cancelled, or deleted the parent of, ended as he wished.
        foreach (var (child, parent) in new[] { (Child, Held), (Late, Held), (Orphan, GaveUp) })
        {
            if (!isCancelled && !Deleted.Contains(Past) && (child == Orphan || !Deleted.Contains(Found)) && ends.TryGetValue(child, out var end) && ends.TryGetValue(parent, out var before))
                Assert.True((end.State == "completed") == (before.State == "completed"), $"I12: job {child} is {end.State}, and its parent {parent} is {before.State}");
        }

        await EmptyAsync(
            "I12: a job ran before what had been added alongside its parent, or without its success",
            $"""
            SELECT child.id
            FROM outbox.job_history AS child
            JOIN outbox.job_history AS found ON found.id = '{Found}'
            WHERE child.id IN ('{Child}', '{Late}')
              AND child.state = 'completed'
              AND (found.state <> 'completed' OR found.finished_at > child.claimed_at)
            """,
            except: isCancelled || Deleted.Contains(Found));
        await EmptyAsync("I12: somebody waits for nobody", "SELECT job_id FROM outbox.job_waits UNION ALL SELECT job_id FROM outbox.unsettled_jobs");
        await EmptyAsync(
            "I3: an effect without its completion, or twice",
            """
            SELECT job_id FROM effects
            GROUP BY job_id
            HAVING count(*) > 1 OR NOT EXISTS (SELECT FROM outbox.job_history WHERE id = job_id AND state = 'completed' AND attempt = 1)
            """,
            except: Deleted.Contains(Held));
    }

    // The jobs of ticks are run by B like any other; here only that each tick has one.
    private async Task CheckTicksAsync()
    {
        await EmptyAsync(
            "I8: a job of a tick that was not taken",
            "SELECT id FROM outbox.all_jobs WHERE headers ? 'outbox-tick' AND id NOT IN (SELECT job_id FROM outbox.schedule_ticks WHERE job_id IS NOT NULL)");
        var withoutJob = await TextsAsync("SELECT job_id FROM outbox.schedule_ticks WHERE (SELECT count(*) FROM outbox.all_jobs WHERE id = job_id) <> 1");
        Assert.True(withoutJob.All(each => Deleted.Contains(Guid.Parse(each))), $"I8: a tick was taken without its job, or with two: {string.Join("; ", withoutJob)}");
        await EmptyAsync(
            "I8: the schedule moved on without its tick, or stayed with it",
            "SELECT name FROM outbox.schedules WHERE (last_at IS NOT NULL) <> EXISTS (SELECT FROM outbox.schedule_ticks WHERE tick_at = '2026-01-01')");
        await EmptyAsync("I8: a change of the schedule was written over", "SELECT name FROM outbox.schedules WHERE version > 1 AND every <> interval '2 hours'");
    }

    protected async Task<List<string>> TextsAsync(string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await using var reader = await command.ExecuteReaderAsync();
        List<string> texts = [];
        while (await reader.ReadAsync())
            texts.Add(reader.GetValue(0).ToString()!);
        return texts;
    }

    private int Attempts(Guid job) => claimed.Count(each => each == job) + (job == Held || job == GaveUp || job == Retries ? 1 : 0);

    // What goes on by itself: an hour passes, dead workers are noticed, asked cancels are carried out, B runs what is due and ends all it holds.
    private static async Task FinishAsync(Session session)
    {
        await session.SqlAsync("UPDATE outbox.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = 'aaaaaaaa-0000-4000-8000-000000000000'");
        await session.SqlAsync("UPDATE outbox.jobs SET run_at = now() WHERE lease_token IS NULL AND run_at > now()");
        await RunAsync(Actors.Rescue);
        await RunAsync(Actors.FinishCancelled);

        // As often as there are generations.
        for (var more = true; more;)
        {
            while ((bool)(await session.SqlAsync("SELECT more FROM outbox.settle_jobs(NULL)"))[0][0])
            {
            }

            await session.SqlAsync("SELECT released FROM outbox.settle_unique_jobs()");
            await RunAsync(Actors.ClaimB);
            var held = await session.SqlAsync("SELECT id, lease_token FROM outbox.jobs WHERE worker_id = 'bbbbbbbb-0000-4000-8000-000000000000'");
            more = held.Count > 0;
            if (more)
                await RunAsync(Actors.Finish("B", [.. held.Select(row => ((Guid)row[0], (Guid)row[1]))]));
        }

        async Task RunAsync(Actor actor)
        {
            foreach (var step in actor.Steps)
                await step(session);
        }
    }

    protected async Task EmptyAsync(string otherwise, string sql, bool except = false)
    {
        var found = except ? [] : await TextsAsync(sql);
        Assert.True(found.Count == 0, $"{otherwise}: {string.Join("; ", found)}");
    }
}
