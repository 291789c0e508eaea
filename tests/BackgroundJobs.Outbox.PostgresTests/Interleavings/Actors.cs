using Npgsql;
using static BackgroundJobs.Outbox.PostgresTests.Interleavings.Situation;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

internal static class Actors
{
    private static Actor[] OnlyOnce => [BeatA, FinishA, CompleteA, CompleteRolledBackA, FailA, ReleaseA, SaveCursorA, GiveUpClaimA, TickA, TickB, RunSchedule, EnqueueChild, AddAlongside, EnqueueTwin];

    private static readonly string[] Unfinished = ["blocked", "scheduled", "waiting", "retrying", "running"];

    private static readonly string[] NotClaimed = ["blocked", "scheduled", "waiting", "retrying"];

    private static readonly string[] Finished = ["completed", "cancelled", "dead"];

    public static readonly Actor ClaimA = Claim("claim A", A);

    public static readonly Actor ClaimB = Claim("claim B", B);

    public static readonly Actor BeatA = new(
        "beat A",
        Begin(s => s.RunAsync("beat_worker", ("worker", A), ("running", 1), ("stuck", 0), ("stopping", false), ("queues", new[] { "default" }))),
        Commit);

    public static readonly Actor FinishA = Finish("A", (Held, HeldToken));

    // In the handler's own transaction; the effect is written before.
    public static readonly Actor CompleteA = new(
        "complete A",
        Begin(s => s.SqlAsync($"INSERT INTO effects (job_id) VALUES ('{Held}')")),
        async s =>
        {
            try
            {
                await s.RunAsync("complete_job", ("id", Held), ("lease_token", HeldToken), ("history", (short)0));
                s.Note(() => s.Situation.Ended(Held));
            }
            catch (PostgresException e) when (e.SqlState == LeaseLostException.SqlState)
            {
                // Its transaction can only be rolled back, which a commit then does.
            }
        },
        Commit);

    // With an effect of the same transaction, which this leaves out.
    public static readonly Actor KeepStepA = new(
        "keep step A",
        Begin(async s =>
        {
            try
            {
                await s.RunAsync("save_step", ("id", Held), ("lease_token", HeldToken), ("name", "charge"), ("step", "{}"));
                var owner = await s.SqlAsync($"SELECT lease_token FROM outbox.jobs WHERE id = '{Held}'");
                Assert.True(owner is [[Guid token]] && token == HeldToken, "I4: a step was kept for who had lost the lease");
            }
            catch (PostgresException e) when (e.SqlState == LeaseLostException.SqlState)
            {
                // As below.
            }
        }),
        Commit);

    public static readonly Actor CompleteRolledBackA = new("complete A and roll back", CompleteA.Steps[0], CompleteA.Steps[1], s => s.RollbackAsync());

    public static readonly Actor FailA = Give("fail A", failed: true, TimeSpan.Zero);

    // At shutdown: what was not started or not ended goes back, and the worker's row goes when nothing is left.
    public static readonly Actor ReleaseA = new(
        "release A",
        Begin(s => GiveAsync(s, failed: false, null)),
        async s =>
        {
            await s.CommitAsync();
            await Begin(t => t.RunAsync("unregister_worker", ("worker", A)))(s);
        },
        Commit);

    public static readonly Actor SaveCursorA = new(
        "save cursor A",
        Begin(s => s.RunAsync("save_cursors", ("ids", new[] { Held }), ("lease_tokens", new[] { HeldToken }), ("cursors", new[] { "7" }), ("progress", new string?[] { null }))),
        Commit);

    // A's claim that brought `held` had no answer; it knows what its other claims brought, and has none on its way.
    public static readonly Actor GiveUpClaimA = new(
        "give up claim A",
        Begin(s => s.RunAsync("retire_claims", ("worker", A), ("epoch", 1))),
        async s =>
        {
            await s.CommitAsync();
            await Begin(async t =>
            {
                var known = await t.SqlAsync($"SELECT id, lease_token FROM outbox.jobs WHERE worker_id = '{A}' AND lease_token <> '{HeldToken}'");
                var released = await t.RunAsync(
                    "release_claims",
                    ("worker", A),
                    ("ids", known.ConvertAll(each => (Guid)each[0]).ToArray()),
                    ("lease_tokens", known.ConvertAll(each => (Guid)each[1]).ToArray()));
                if (released.Count > 0)
                    t.Note(() => t.Situation.Ended(Held));
            })(s);
        },
        Commit);

    public static readonly Actor Rescue = new(
        "rescue",
        Begin(s => s.RunAsync("mark_dead_workers")),
        async s =>
        {
            await s.RunAsync("rescue_jobs", ("max_crashes", 3));
            await s.RunAsync("forget_dead_workers");
        },
        Commit);

    public static readonly Actor Cancel = new(
        "cancel",
        Begin(s => s.RunAsync("cancel_waiting_jobs", Filter(NotClaimed, ("reason", "an operator")))),
        async s =>
        {
            await s.CommitAsync();
            await Begin(t => t.RunAsync("request_cancel", Filter(Unfinished, ("patience", "5s"))))(s);
            s.Note(s.Situation.Cancelled);
        },
        Commit) { IsOperator = true };

    public static readonly Actor FinishCancelled = new("finish cancelled", Begin(s => s.RunAsync("finish_cancelled_jobs")), Commit);

    public static readonly Actor Retry = new(
        "retry",
        Begin(async s =>
        {
            if ((await s.RunAsync("retry_finished_jobs", Filter(["dead"], ("ids", new[] { GaveUp })))).Count > 0)
                await s.RunAsync("bring_back_children", ("ids", new[] { GaveUp }));
        }),
        async s =>
        {
            await s.CommitAsync();
            await Begin(t => t.RunAsync("retry_waiting_jobs", Filter(["retrying"])))(s);
        },
        Commit) { IsOperator = true };

    public static readonly Actor DeleteFinished = new("delete finished", Begin(s => DeleteAsync(s, "delete_finished_jobs", Finished)), Commit) { IsOperator = true };

    public static readonly Actor DeleteWaiting = new("delete waiting", Begin(s => DeleteAsync(s, "delete_waiting_jobs", NotClaimed)), Commit) { IsOperator = true };

    public static readonly Actor Enqueue = new(
        "enqueue",
        Begin(async s =>
        {
            await s.RunAsync(
                "enqueue_jobs",
                ("ids", new[] { New }),
                ("kinds", new[] { "a" }),
                ("args", new[] { "{}" }),
                ("queues", new[] { "default" }),
                ("priorities", new short[] { 2 }),
                ("run_at", new DateTime?[] { null }),
                ("delays", new long?[] { null }),
                ("max_attempts", new short[] { 20 }),
                ("headers", new string?[] { null }),
                ("traceparents", new string?[] { null }),
                ("workflow_ids", new Guid?[] { null }),
                ("depends_on", new string?[] { null }));
            s.Note(() => s.Situation.Enqueued.Add(New));
        }),
        Commit);

    public static readonly Actor EnqueueRolledBack = new("enqueue and roll back", Enqueue.Steps[0], s => s.RollbackAsync());

    // While its parent runs, ends, or is gone already.
    public static readonly Actor EnqueueChild = new(
        "enqueue child",
        Begin(async s =>
        {
            try
            {
                await s.SqlAsync($$"""
                    INSERT INTO outbox.jobs (id, kind, args, priority, workflow_id, depends_on)
                    VALUES ('{{Late}}', 'a', '{}', -2, '{{Workflow}}', '{"{{Held}}": "success"}')
                    """);
                s.Note(() => s.Situation.Enqueued.Add(Late));
            }
            catch (PostgresException e) when (e.SqlState == InvalidJobException.SqlState)
            {
                // Nobody knows its parent any more; its transaction can only be rolled back.
            }
        }),
        Commit);

    // By A's handler, which may have lost the job meanwhile.
    public static readonly Actor AddAlongside = new(
        "add alongside A",
        Begin(async s =>
        {
            try
            {
                await s.SqlAsync($$"""
                    INSERT INTO outbox.jobs (id, kind, args, priority, workflow_id, depends_on)
                    VALUES ('{{Found}}', 'a', '{}', 2, '{{Workflow}}', '{"{{Held}}": "alongside"}')
                    """);
                s.Note(() => s.Situation.Enqueued.Add(Found));
            }
            catch (PostgresException e) when (e.SqlState == LeaseLostException.SqlState)
            {
                // As above.
            }
        }),
        Commit);

    // Beside `twin`, which is not compared yet.
    public static readonly Actor EnqueueTwin = new(
        "enqueue twin",
        Begin(async s =>
        {
            await s.SqlAsync($$"""
                INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule)
                VALUES ('{{Second}}', 'a', '{}', -2, 'twins', '{"rule": "waiting"}')
                """);
            s.Note(() => s.Situation.Enqueued.Add(Second));
        }),
        Commit);

    // Any worker that hears of jobs with a key, or whose heartbeat finds some.
    public static readonly Actor SettleUnique = new("settle unique", Begin(s => s.RunAsync("settle_unique_jobs")), Commit);

    // Two workers may do it at once: the one that has ended a job, and the one whose heartbeat says that there is something.
    public static readonly Actor Settle = new(
        "settle",
        Begin(async s =>
        {
            try
            {
                await s.RunAsync("settle_jobs");
            }
            catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.LockNotAvailable)
            {
                // It waits for no session that takes long; its notes stay.
            }
        }),
        Commit);

    public static readonly Actor SettleApart = new("settle apart", Begin(s => s.RunAsync("settle_jobs_apart")), Commit);

    // Drops a partition of the history, which waits for everyone who writes to it.
    public static readonly Actor Maintain = new(
        "maintain history",
        Begin(s => s.RunAsync("maintain_history", ("days_ahead", 1), ("retention", TimeSpan.FromDays(14)))),
        Commit);

    // Two workers that have read the same tick.
    public static readonly Actor TickA = Tick("tick A", TickedA);

    public static readonly Actor TickB = Tick("tick B", TickedB);

    public static readonly Actor RunSchedule = new(
        "run schedule",
        async s =>
        {
            var found = (await s.SqlAsync("SELECT version, last_at FROM outbox.schedules"))[0];
            await s.BeginAsync();
            await TickAsync(s, (int)found[0], found[1] as DateTime?, [RunAt], Ran, keep: true);
        },
        Commit) { IsOperator = true };

    public static readonly Actor ChangeSchedule = new(
        "change schedule",
        Begin(s => s.RunAsync(
            "set_schedule",
            ("name", "s"),
            ("kind", "a"),
            ("args", "{}"),
            ("queue", "default"),
            ("priority", (short)2),
            ("max_attempts", (short)20),
            ("every", TimeSpan.FromHours(2)),
            ("time_zone", "UTC"),
            ("missed", "once"),
            ("missed_limit", 1),
            ("overlap", true))),
        Commit) { IsOperator = true };

    public static readonly IReadOnlyList<Actor> All =
    [
        ClaimA, ClaimB, BeatA, FinishA, CompleteA, CompleteRolledBackA, FailA, ReleaseA, SaveCursorA, KeepStepA, GiveUpClaimA, Rescue, Cancel, FinishCancelled, Retry,
        DeleteFinished, DeleteWaiting, Enqueue, EnqueueRolledBack, Maintain, TickA, TickB, RunSchedule, ChangeSchedule, EnqueueChild, AddAlongside, Settle,
        SettleApart, EnqueueTwin, SettleUnique,
    ];

    public static Actor Finish(string who, params (Guid Job, Guid Token)[] held) => new(
        $"finish {who}",
        Begin(async s =>
        {
            await s.UseKeyAsync();
            var lost = await s.RunAsync(
                "finish_jobs",
                ("ids", Array.ConvertAll(held, each => each.Job)),
                ("lease_tokens", Array.ConvertAll(held, each => each.Token)),
                ("states", Array.ConvertAll(held, _ => "completed")),
                ("history", new short[held.Length]),
                ("errors", new string?[held.Length]),
                ("cursors", new string?[held.Length]),
                ("results", new string?[held.Length]),
                ("limited", false));
            foreach (var (job, _) in held.Where(each => !lost.Exists(row => each.Job.Equals(row[0]))))
                s.Note(() => s.Situation.Ended(job));
        }),
        Commit);

    // Of one worker whose loop has ended before it takes its row away; of one attempt, which does each once; of one job.
    public static bool CannotMeet(Actor one, Actor other) => (Enqueues(one) && Enqueues(other)) || (OneOf(one) && OneOf(other)) || (one == other && OnlyOnce.Contains(one));

    private static bool Enqueues(Actor actor) => actor == Enqueue || actor == EnqueueRolledBack;

    private static bool OneOf(Actor actor) => actor == ReleaseA || actor == ClaimA || actor == GiveUpClaimA;

    private static Actor Claim(string name, Guid worker) => new(
        name,
        Begin(async s =>
        {
            await s.RunAsync("use_indexes", ("is_local", true));
            var jobs = await s.RunAsync(
                "claim_jobs",
                ("queue", "default"),
                ("limit", 10),
                ("after_run_at", new DateTime[4]),
                ("after_id", new Guid[4]),
                ("suspects", false),
                ("kinds", new[] { "a" }),
                ("worker", worker),
                ("epoch", 0),
                ("lease_token", Guid.NewGuid()));
            foreach (var job in jobs)
                s.Note(() => s.Situation.Claimed((Guid)job[0]));
        }),
        Commit);

    private static Actor Give(string name, bool failed, TimeSpan? delay) => new(name, Begin(s => GiveAsync(s, failed, delay)), Commit);

    private static async Task GiveAsync(Session s, bool failed, TimeSpan? delay)
    {
        await s.UseKeyAsync();
        var given = await s.RunAsync(
            "reschedule_jobs",
            ("ids", new[] { Held }),
            ("lease_tokens", new[] { HeldToken }),
            ("delays", new[] { (long?)delay?.TotalMicroseconds }),
            ("failed", new[] { (short)(failed ? 1 : 0) }),
            ("errors", new string?[] { null }),
            ("cursors", new string?[] { null }));
        if (given.Count > 0)
            s.Note(() => s.Situation.Ended(Held));
    }

    private static Actor Tick(string name, Guid job) => new(name, Begin(s => TickAsync(s, 1, null, [TickAt], job, keep: false)), Commit);

    private static Task<List<object[]>> TickAsync(Session s, int version, DateTime? seen, DateTime[] ticks, Guid job, bool keep) => s.RunAsync(
        "enqueue_ticks",
        ("names", new[] { "s" }),
        ("versions", new[] { version }),
        ("changed_at", new[] { ChangedAt }),
        ("seen_at", new[] { seen }),
        ("moved_to", new[] { keep ? seen : TickAt }),
        ("next_at", new DateTime?[] { null }),
        ("keep", keep),
        ("tick_schedules", new[] { "s" }),
        ("ticks", ticks),
        ("ids", new[] { job }),
        ("args", new[] { "{}" }));

    private static async Task DeleteAsync(Session s, string file, string[] states)
    {
        foreach (var row in await s.RunAsync(file, Filter(states)))
            s.Note(() => s.Situation.Deleted.Add((Guid)row[0]));
    }

    private static (string, object)[] Filter(string[] states, params (string, object)[] more) => [("states", states), ("after", Guid.Empty), ("limit", 100L), .. more];

    private static Func<Session, Task> Begin(Func<Session, Task> first) => async session =>
    {
        await session.BeginAsync();
        await first(session);
    };

    private static Task Commit(Session session) => session.CommitAsync();
}
