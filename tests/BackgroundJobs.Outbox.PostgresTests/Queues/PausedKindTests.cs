using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Admin;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Queues;

// A kind is paused: none of its jobs starts, on no worker, and all else goes on.
public sealed class PausedKindTests
{
    private static readonly string[] Kinds = ["number", "other"];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_claim_that_begins_after_the_pause_takes_no_job_of_the_kind_and_the_others_in_its_place(bool inTurn)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        if (inTurn)
            await admin.SetLimitsAsync("default", new(), Cancellation);
        JobQueue queue = new(database.DataSource);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 20).Select(n => NewJob.Create(new NumberJob(n))), NewJob.Create(new OtherJob("a")), NewJob.Create(new OtherJob("b"))], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        Assert.Equal(["number"], await ClaimAsync(1));

        await admin.PauseKindAsync("number", "a fire", cancellationToken: Cancellation);
        Assert.Equal(["other", "other"], await ClaimAsync(5));
        Assert.Empty(await ClaimAsync(5));
        await admin.PauseKindAsync("other", cancellationToken: Cancellation);
        Assert.Empty(await ClaimAsync(5));

        Assert.True(await admin.ResumeKindAsync("number", cancellationToken: Cancellation));
        Assert.Equal(["number", "number", "number", "number", "number"], await ClaimAsync(5));

        async Task<List<string>> ClaimAsync(int limit) =>
            [.. (await queue.ClaimAsync(ClaimRequest.Everything("default", limit, worker, Kinds) with { InTurn = inTurn })).Select(job => job.Kind)];
    }

    [Fact]
    public async Task A_kind_may_be_paused_in_one_queue_alone()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        JobQueue queue = new(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Queue = "a" }), NewJob.Create(new NumberJob(2), new() { Queue = "b" })], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await admin.PauseKindAsync("number", queue: "a", cancellationToken: Cancellation);
        Assert.Empty(await ClaimAsync("a"));
        Assert.Single(await ClaimAsync("b"));

        // Each pause is one of its own.
        await admin.PauseKindAsync("number", cancellationToken: Cancellation);
        Assert.True(await admin.ResumeKindAsync("number", "a", Cancellation));
        Assert.Empty(await ClaimAsync("a"));
        Assert.True(await admin.ResumeKindAsync("number", cancellationToken: Cancellation));
        Assert.Single(await ClaimAsync("a"));

        Task<List<ClaimedJob>> ClaimAsync(string name) => queue.ClaimAsync(ClaimRequest.Everything(name, 10, worker, Kinds));
    }

    [Fact]
    public async Task A_suspect_of_a_paused_kind_waits_too()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        JobQueue queue = new(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], Cancellation);
        await database.ExecuteAsync("UPDATE outbox.jobs SET crashes = 2");
        var worker = await Workers.RegisterAsync(database);
        await admin.PauseKindAsync("number", cancellationToken: Cancellation);
        Assert.Empty(await queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, Kinds, suspects: true)));
        await admin.ResumeKindAsync("number", cancellationToken: Cancellation);
        Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, Kinds, suspects: true)));
    }

    // As one of a kind that no worker knows would.
    [Theory]
    [InlineData(GroupOrder.Any, "other")]
    [InlineData(GroupOrder.Fifo, "")]
    [InlineData(GroupOrder.Strict, "")]
    public async Task At_the_head_of_a_group_it_holds_up_the_others_where_they_are_in_order(GroupOrder order, string claimed)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        await admin.SetLimitsAsync("default", new() { GroupOrder = order }, Cancellation);
        JobQueue queue = new(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Group = "a" })], Cancellation);
        await queue.EnqueueAsync([NewJob.Create(new OtherJob("a"), new() { Group = "a" })], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await admin.PauseKindAsync("number", cancellationToken: Cancellation);
        Assert.Equal(claimed, string.Join(" ", (await ClaimAsync()).Select(job => job.Kind)));
        await admin.ResumeKindAsync("number", cancellationToken: Cancellation);
        Assert.Equal("number", Assert.Single(await ClaimAsync()).Kind);

        Task<List<ClaimedJob>> ClaimAsync() => queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, Kinds) with { InTurn = true });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task While_it_is_paused_other_kinds_run_and_when_it_is_resumed_its_jobs_start_at_once(bool limits)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        await admin.PauseKindAsync("number", cancellationToken: Cancellation);
        ConcurrentBag<string> ran = [];
        await using var one = await StartAsync(listens: true);
        await using var other = await StartAsync(listens: false);
        await one.Queue.EnqueueAsync([.. Enumerable.Range(0, 50).Select(n => NewJob.Create(new NumberJob(n), new() { RunAt = DateTimeOffset.UnixEpoch }))], Cancellation);
        for (var n = 1; n <= 5; n++)
        {
            // Claims go past those that wait.
            await one.EnqueueAsync(new OtherJob($"{n}"));
            await Eventually.TrueAsync(() => ran.Count == n, "the other kind runs");
        }

        Assert.True(await admin.ResumeKindAsync("number", cancellationToken: Cancellation));

        // Polls are an hour apart: it is the resume that tells.
        await Eventually.TrueAsync(() => ran.Count == 55, "they run", 5);

        Task<WorkerHost> StartAsync(bool listens) => WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) => Note("number")).Handle<OtherJob>((_, _, _) => Note("other")),
            w =>
            {
                w.PollInterval = TimeSpan.FromHours(1);
                w.Listen = listens;
                w.Queue("default", 5, limits ? new QueueLimits() : null);
            });

        Task Note(string kind)
        {
            ran.Add(kind);
            return Task.CompletedTask;
        }
    }

    [Fact]
    public async Task Workers_hear_of_a_resume_with_the_oldest_job_of_each_queue()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var mail = await HintAsync("mails", "now() - interval '1 hour'");
        await HintAsync("mails", "now() - interval '1 minute'");
        var other = await HintAsync("default", "now() + interval '1 hour'");
        await database.Admin.PauseKindAsync("a_kind", cancellationToken: Cancellation);
        var (notified, raised) = await database.HearAsync(() => database.Admin.ResumeKindAsync("a_kind", cancellationToken: Cancellation));
        Assert.Equal([other, mail], raised.OrderBy(hint => hint.Queue, StringComparer.Ordinal));
        Assert.Equal([mail.ToPayload(), other.ToPayload()], notified.Order(StringComparer.Ordinal));

        await database.Admin.PauseKindAsync("a_kind", queue: "mails", cancellationToken: Cancellation);
        (_, raised) = await database.HearAsync(() => database.Admin.ResumeKindAsync("a_kind", "mails", Cancellation));
        Assert.Equal([mail], raised);

        async Task<JobHint> HintAsync(string queue, string runAt) => new(queue, (await database.Inspector.FindAsync(await database.WaitingAsync(queue: queue, runAt: runAt)))!.RunAt);
    }

    [Fact]
    public async Task What_runs_when_it_is_paused_runs_on_and_children_wait()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        TaskCompletionSource started = new();
        TaskCompletionSource go = new();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<OtherJob>(async (_, _, _) =>
        {
            started.SetResult();
            await go.Task;
        }).Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        JobWorkflow flow = new();
        var parent = flow.Add(new OtherJob("a"));
        var child = flow.Add(new NumberJob(1), after: [parent]);
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await started.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, Cancellation);
        await admin.PauseKindAsync("other", cancellationToken: Cancellation);
        await admin.PauseKindAsync("number", "a fire", "ann", cancellationToken: Cancellation);
        go.SetResult();
        await Eventually.TrueAsync(async () => await StateAsync(child.Id) == "waiting", "its parent has ended");
        var why = (await new JobInspector(database.Inspector).ExplainAsync(child.Id, Cancellation))!.Why;
        Assert.Matches("^Its kind number is paused since .* by ann: a fire\\.$", why);
        await admin.ResumeKindAsync("number", cancellationToken: Cancellation);
        await Eventually.TrueAsync(async () => await StateAsync(child.Id) == "completed", "it runs");

        Task<string?> StateAsync(Guid id) => database.ScalarAsync<string?>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'");
    }

    [Fact]
    public async Task What_waits_of_a_paused_kind_is_not_walked_by_each_claim()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).PauseKindAsync("number", cancellationToken: Cancellation);
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, run_at)
            SELECT outbox.new_job_id(), 'number', '{}', now() - interval '1 hour' + n * interval '1 ms'
            FROM generate_series(1, 20000) AS n
            """);
        var ran = 0;
        await using (var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask).Handle<OtherJob>((_, _, _) =>
            {
                Interlocked.Increment(ref ran);
                return Task.CompletedTask;
            }),
            w => w.PollInterval = TimeSpan.FromHours(1)))
        {
            await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT heartbeat_at > started_at FROM outbox.workers"), "it has heard that kinds are paused");
            await worker.EnqueueAsync(new OtherJob("old"), new() { RunAt = DateTimeOffset.UnixEpoch });
            await Eventually.TrueAsync(() => ran == 1, "it runs");
            for (var n = 1; n <= 100; n++)
                await worker.EnqueueAsync(new NumberJob(n));
            await worker.EnqueueAsync(new OtherJob("new"));
            await Eventually.TrueAsync(() => ran == 2, "it runs");
        }

        await Eventually.TrueAsync(async () => await ReadAsync() > 20_000, "the server has counted");
        Assert.InRange(await ReadAsync(), 20_000, 300_000);

        Task<long> ReadAsync() => database.ScalarAsync<long>("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_ready'");
    }

    [Fact]
    public async Task Pauses_are_listed_and_kept_with_who_and_why_until_they_are_resumed()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        JobInspector inspector = new(database.Inspector);
        await admin.PauseKindAsync("number", "the provider is down", "ops", cancellationToken: Cancellation);
        await admin.PauseKindAsync("number", queue: "mails", cancellationToken: Cancellation);
        var paused = await inspector.PausedKindsAsync(Cancellation);
        Assert.Equal([("number", null, "ops", "the provider is down"), ("number", "mails", TestRoles.Operator, null)], paused.Select(each => (each.Kind, each.Queue, each.PausedBy, each.PauseReason)));

        await admin.PauseKindAsync("number", "still down", cancellationToken: Cancellation);
        var again = (await inspector.PausedKindsAsync(Cancellation))[0];
        Assert.Equal((paused[0].PausedAt, TestRoles.Operator, "still down"), (again.PausedAt, again.PausedBy, again.PauseReason));

        Assert.True(await admin.ResumeKindAsync("number", "mails", Cancellation));
        Assert.False(await admin.ResumeKindAsync("number", "mails", Cancellation));
        Assert.False(await admin.ResumeKindAsync("other", cancellationToken: Cancellation));
        Assert.Single(await inspector.PausedKindsAsync(Cancellation));
        Assert.Equal(
            [
                ("resume", "{\"kind\": \"number\", \"queue\": \"mails\"}"),
                ("pause", "{\"by\": null, \"kind\": \"number\", \"queue\": null, \"reason\": \"still down\"}"),
                ("pause", "{\"by\": null, \"kind\": \"number\", \"queue\": \"mails\", \"reason\": null}"),
                ("pause", "{\"by\": \"ops\", \"kind\": \"number\", \"queue\": null, \"reason\": \"the provider is down\"}"),
            ],
            (await inspector.OperationsAsync(Cancellation)).Select(each => (each.Verb, each.What)));

        await Assert.ThrowsAsync<InvalidJobException>(() => admin.PauseKindAsync("Bad Name", cancellationToken: Cancellation));
        await Assert.ThrowsAsync<InvalidJobException>(() => admin.ResumeKindAsync("number", "", Cancellation));
        await Assert.ThrowsAsync<OutboxException>(() => admin.PauseKindAsync("number", "a\0b", cancellationToken: Cancellation));
    }

    [Theory]
    [InlineData(0, 1, 1)]
    [InlineData(1, 2, 3)]
    public async Task What_a_claim_pays_for_it_is_one_look_at_an_empty_table(int paused, int atLeast, int atMost)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobQueue(database.DataSource).EnqueueAsync([.. Enumerable.Range(0, 100).Select(n => NewJob.Create(new NumberJob(n)))], Cancellation);
        if (paused > 0)
            await new JobAdmin(database.Operator).PauseKindAsync("other", cancellationToken: Cancellation);
        var plan = await Plan.OfAsync(
            database.DataSource,
            "sql/claim_jobs.sql",
            ("queue", "default"),
            ("limit", 10),
            ("after_run_at", new DateTime[4]),
            ("after_id", new Guid[4]),
            ("suspects", false),
            ("kinds", Kinds),
            ("worker", await Workers.RegisterAsync(database)),
            ("epoch", 0),
            ("lease_token", Guid.NewGuid()));
        var looks = plan.Nodes.Where(node => node.TryGetProperty("Relation Name", out var name) && name.GetString() == "paused_kinds").ToList();
        Assert.InRange(looks.Sum(node => node.GetProperty("Actual Loops").GetDouble()), atLeast, atMost);
    }
}
