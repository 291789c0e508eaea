using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;
using BackgroundJobs.Outbox.Worker;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// Many tenants, many queues, many processes, and one line for all of them: who comes first takes it all.
public sealed class ManyQueuesTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Naive_in_one_line_ten_jobs_of_one_tenant_wait_for_all_the_two_thousand_of_another()
    {
        var tenants = await OrderOfTenantsAsync(null);
        Assert.InRange(tenants.IndexOf("small"), 1990, 2000);
    }

    [Fact]
    public async Task Ours_ten_jobs_of_one_tenant_are_done_while_another_has_its_two_thousand_before_them()
    {
        var tenants = await OrderOfTenantsAsync(new());
        Assert.Equal(2010, tenants.Count);
        Assert.InRange(tenants.LastIndexOf("small"), 9, 200);
    }

    [Fact]
    public async Task Naive_a_queue_without_an_answer_to_429_asks_again_for_each_of_its_mails()
    {
        var provider = new Provider();
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var worker = await MailAsync(database, 4, null, (job, _) => provider.Accepts(job.ServerId)
            ? Task.CompletedTask
            : throw new InvalidOperationException("429 Too Many Requests"));
        await SaveMailsAsync(database, provider);

        await Eventually.TrueAsync(() => provider.Refused >= 50, "each mail was refused");
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE failures > 0") == 50, "and has failed, though nothing is wrong with it");
    }

    [Fact]
    public async Task Ours_after_one_429_its_group_is_asked_no_more_until_then_and_all_others_go_on()
    {
        var provider = new Provider();
        await using var database = await ServerContext.CreateDatabaseAsync();
        var began = TimeProvider.System.GetTimestamp();
        await using var worker = await MailAsync(database, 4, new() { GroupConcurrency = 1 }, (job, context) =>
        {
            if (!provider.Accepts(job.ServerId))
                context.PushBack(TimeSpan.FromSeconds(2));
            return Task.CompletedTask;
        });
        var refused = await SaveMailsAsync(database, provider);

        await Eventually.TrueAsync(() => provider.Refused > 0 && provider.Accepted == 20, "the mails of the other provider are sent");
        Assert.InRange(provider.Refused, 1, 1 + (int)(TimeProvider.System.GetElapsedTime(began).TotalSeconds / 2));

        // Who looks is told what is going on.
        var inspector = new JobInspector(database.Inspector);
        await Eventually.TrueAsync(
            async () => (await inspector.ExplainAsync(refused, Cancellation))!.Why.StartsWith("Its group full.example is paused until", StringComparison.Ordinal), "it is said why they wait");

        provider.Open();
        await Eventually.TrueAsync(() => provider.Accepted == 70, "all are sent");
        await DrainedAsync(database);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE failures > 0 OR state <> 'completed'"));
    }

    [Fact]
    public async Task Naive_in_one_queue_reports_that_hang_keep_the_mails_back()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        var hanging = new TaskCompletionSource();
        ConcurrentQueue<string> ran = [];
        await using var worker = await ReportsAndMailsAsync(database, hanging, ran, _ => { });
        await SaveReportsAndMailsAsync(database, "default", "default");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL AND kind = 'number'") >= 2, "reports hang");
        Assert.Equal(10L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE kind = 'other'"));
        hanging.SetResult();
        await DrainedAsync(database);
        Assert.Equal(["report", "report"], ran.Take(2));
    }

    [Fact]
    public async Task Ours_a_queue_that_is_flooded_and_hangs_does_not_keep_another_back()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        var hanging = new TaskCompletionSource();
        ConcurrentQueue<string> ran = [];
        await using var worker = await ReportsAndMailsAsync(database, hanging, ran, w => w.Queue("reports", 2).Queue("mails", 2));
        await SaveReportsAndMailsAsync(database, "reports", "mails");
        await Eventually.TrueAsync(() => ran.Count == 10, "the mails are sent");
        Assert.DoesNotContain("report", ran);
        Assert.Equal(500L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE queue = 'reports'"));
        hanging.SetResult();
        await DrainedAsync(database);
        Assert.Equal(510, ran.Count);
    }

    [Fact]
    public async Task Naive_a_limit_in_each_process_is_twice_the_limit_in_two()
    {
        var (all, _) = await MostInTwoProcessesAsync(null);
        Assert.InRange(all, 5, 6);
    }

    [Fact]
    public async Task Ours_limits_of_a_queue_and_of_each_tenant_hold_over_two_processes()
    {
        var (all, ofOneTenant) = await MostInTwoProcessesAsync(new() { Concurrency = 4, GroupConcurrency = 2 });
        Assert.Equal((4L, 2L), (all, ofOneTenant));
    }

    // Whose jobs started, in that order; all were there before.
    private static async Task<List<string>> OrderOfTenantsAsync(QueueLimits? limits)
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using (var db = ServerContext.Open(database))
        {
            foreach (var (tenant, servers) in new[] { ("large", 2000), ("small", 10) })
            {
                for (var n = 0; n < servers; n++)
                    Add(db, $"{tenant} {n}", new() { Queue = "boots", Group = tenant });
                await db.SaveChangesAsync(Cancellation);
            }
        }

        ConcurrentQueue<string> started = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<BootServer>((_, context, _) =>
            {
                started.Enqueue(context.Group!);
                return Task.CompletedTask;
            }),
            w => _ = limits is null ? w.Queue("boots", 4) : w.Queue("boots", 4, limits));
        await DrainedAsync(database);
        return [.. started];
    }

    private static Task<WorkerHost> MailAsync(ScratchDatabase database, int concurrency, QueueLimits? limits, Func<BootServer, JobContext, Task> send) => WorkerHost.StartAsync(
        database,
        o => o.Handle<BootServer>((job, context, _) => send(job, context)),
        w => _ = limits is null ? w.Queue("mails", concurrency) : w.Queue("mails", concurrency, limits));

    // Fifty to a provider that takes no more for now, then twenty to another; one of the fifty.
    private static async Task<Guid> SaveMailsAsync(ScratchDatabase database, Provider provider)
    {
        await using var db = ServerContext.Open(database);
        List<Server> refused = [.. Enumerable.Range(0, 50).Select(n => new Server { Id = n + 1, Name = $"{n}@full.example" })];
        provider.Refuse(refused.Select(each => each.Id));
        var last = Guid.Empty;
        foreach (var server in refused.Concat(Enumerable.Range(50, 20).Select(n => new Server { Id = n + 1, Name = $"{n}@free.example" })))
        {
            db.Add(server);
            var id = db.Enqueue(new BootServer(server.Id), new() { Queue = "mails", Group = server.Name.Split('@')[1] });
            last = server.Id == 50 ? id : last;
        }

        await db.SaveChangesAsync(Cancellation);
        return last;
    }

    private static Task<WorkerHost> ReportsAndMailsAsync(ScratchDatabase database, TaskCompletionSource hanging, ConcurrentQueue<string> ran, Action<OutboxWorkerOptions> queues) => WorkerHost.StartAsync(
        database,
        o => o
            .Handle<NumberJob>(async (_, _, token) =>
            {
                await hanging.Task.WaitAsync(token);
                ran.Enqueue("report");
            })
            .Handle<OtherJob>((_, _, _) =>
            {
                ran.Enqueue("mail");
                return Task.CompletedTask;
            }),
        w =>
        {
            queues(w);
            if (!w.Queues.Any())
                w.Queue("default", 2);
        });

    private static async Task SaveReportsAndMailsAsync(ScratchDatabase database, string reports, string mails)
    {
        await using var db = ServerContext.Open(database);
        for (var n = 0; n < 500; n++)
            db.Enqueue(new NumberJob(n), new() { Queue = reports });
        await db.SaveChangesAsync(Cancellation);
        for (var n = 0; n < 10; n++)
            db.Enqueue(new OtherJob($"mail {n}"), new() { Queue = mails });
        await db.SaveChangesAsync(Cancellation);
    }

    // The most jobs that ran at a time, of all and of one of three tenants; in two processes that may run three each.
    private static async Task<(long All, long OfOneTenant)> MostInTwoProcessesAsync(QueueLimits? limits)
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await WorkerProcess.PrepareAsync(database);
        if (limits is not null)
            await new JobAdmin(database.Operator).SetLimitsAsync("default", limits, Cancellation);
        await using var one = await WorkerProcess.StartAsync(database, concurrency: 3);
        await using var other = await WorkerProcess.StartAsync(database, concurrency: 3);
        await using (var db = ServerContext.Open(database))
        {
            for (var n = 0; n < 42; n++)
            {
                db.Add(new Server { Name = $"tenant {n % 3}" });
                db.Enqueue(new SlowJob(n, 150), new() { Group = $"tenant {n % 3}" });
            }

            await db.SaveChangesAsync(Cancellation);
        }

        await DrainedAsync(database);
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(DISTINCT process_id) FROM runs"));
        Assert.Equal(42L, await database.ScalarAsync<long>("SELECT count(*) FROM runs WHERE what = 'end'"));
        return (await MostAsync("true"), await MostAsync("other.number % 3 = began.number % 3"));

        Task<long> MostAsync(string which) => database.ScalarAsync<long>($"""
            SELECT max((SELECT count(*) FILTER (WHERE what = 'start') - count(*) FILTER (WHERE what = 'end') FROM runs AS other WHERE other.at <= began.at AND {which}))
            FROM runs AS began WHERE what = 'start'
            """);
    }

    private static void Add(ServerContext db, string name, EnqueueOptions options)
    {
        var server = new Server { Name = name };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id), options);
    }

    private static Task DrainedAsync(ScratchDatabase database) =>
        Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended", 40);

    // The mail provider's side of it.
    private sealed class Provider
    {
        private readonly HashSet<long> full = [];
        private int accepted;
        private int refused;

        public int Accepted => Volatile.Read(ref accepted);

        public int Refused => Volatile.Read(ref refused);

        public void Refuse(IEnumerable<long> mails)
        {
            lock (full)
                full.UnionWith(mails);
        }

        public void Open()
        {
            lock (full)
                full.Clear();
        }

        public bool Accepts(long mail)
        {
            bool accepts;
            lock (full)
                accepts = !full.Contains(mail);
            Interlocked.Increment(ref accepts ? ref accepted : ref refused);
            return accepts;
        }
    }
}
