using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// A queue with limits, and no groups, is claimed as one without limits, as far as they allow; until its first job with a group comes.
public sealed class QueueWithoutGroupsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Its_limits_hold_and_it_has_no_line()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { Concurrency = 3, Rate = new(5, TimeSpan.FromDays(1)) }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 10).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
        var worker = await Workers.RegisterAsync(database);

        var first = await ClaimAsync(database, worker, 2);
        Assert.Equal(2, first.Jobs.Count);
        Assert.All(first.Jobs, each => Assert.True(each is { Limited: true, InTurn: false }));
        Assert.Equal((false, false, null), (first.InLine, first.TakesTurns, first.LookAt));

        var second = await ClaimAsync(database, worker, 10);
        Assert.Single(second.Jobs);
        Assert.Equal((true, false, null), (second.InLine, second.TakesTurns, second.LookAt));
        Assert.Empty((await ClaimAsync(database, worker, 10)).Jobs);

        // The concurrency has room for three, the rate for two.
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
            await queue.FinishAsync(connection, [.. first.Jobs.Concat(second.Jobs).Select(each => new FinishedJob(each, JobState.Completed, HistoryPolicy.Keep, null))], prepare: false);
        var third = await ClaimAsync(database, worker, 10);
        Assert.Equal(2, third.Jobs.Count);
        Assert.False(third.InLine);
        Assert.True(await database.ScalarAsync<bool>($"SELECT '{third.LookAt:O}'::timestamptz BETWEEN now() + interval '23 h' AND now() + interval '26 h'"));
        Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_groups"));
        Assert.Equal(5, await database.ScalarAsync<int>("SELECT started[1] FROM outbox.queues"));
    }

    // To ask each of them took a fifth of the time of a drain.
    [Fact]
    public async Task Ends_are_counted_with_their_record_and_leases_are_asked_only_where_there_might_be_no_room()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { Concurrency = 400 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 200).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
        var worker = await Workers.RegisterAsync(database);
        var jobs = (await ClaimAsync(database, worker, 200)).Jobs;
        Assert.Equal(200, jobs.Count);
        await database.ExecuteAsync($"UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE id = '{jobs[0].Id}'");
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
        {
            var lost = await queue.FinishAsync(connection, [.. jobs.Take(150).Select(each => new FinishedJob(each, JobState.Completed, HistoryPolicy.Keep, null))], prepare: false);
            Assert.Equal(jobs[0].Id, Assert.Single(lost));
        }

        // What was given back counts until somebody asks.
        Assert.Equal("200 149", await NotedAsync());
        Assert.Equal((349, false), await RoomAsync(349));
        Assert.Equal((350, true), await RoomAsync(350));
        Assert.Equal("50 0", await NotedAsync());
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
            Assert.Empty(await queue.FinishAsync(connection, [.. jobs.Skip(150).Select(each => new FinishedJob(each, JobState.Completed, HistoryPolicy.Keep, null))], prepare: false));
        Assert.Equal("50 50", await NotedAsync());
        Assert.Single((await ClaimAsync(database, worker, 400)).Jobs);
        Assert.Equal("1 0", await NotedAsync());

        async Task<string> NotedAsync() => await database.ScalarAsync<string>("SELECT concat_ws(' ', sum(jobs), sum(ended)) FROM outbox.queue_holders");

        // And whether leases were asked.
        async Task<(int Room, bool Asked)> RoomAsync(int wanted)
        {
            const string Read = "SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(indexrelid)), 0)::bigint FROM pg_index WHERE indrelid = 'outbox.jobs'::regclass";
            await using var connection = await database.Admin.OpenConnectionAsync(Cancellation);
            await using var transaction = await connection.BeginTransactionAsync(Cancellation);
            // What was done before may not have been reported yet.
            var before = await OneAsync<long>(Read);
            var room = await OneAsync<int>($"SELECT outbox.room_in_queue('default', {wanted})");
            var asked = await OneAsync<long>(Read) - before;
            await transaction.CommitAsync(Cancellation);
            return (room, asked > 0);

            async Task<T> OneAsync<T>(string sql)
            {
                await using var command = new NpgsqlCommand(sql, connection);
                return (T)(await command.ExecuteScalarAsync(Cancellation))!;
            }
        }
    }

    [Fact]
    public async Task A_worker_that_may_claim_nothing_uses_up_no_rate()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { Rate = new(1, TimeSpan.FromDays(1)) }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await database.ExecuteAsync("UPDATE outbox.workers SET dead_at = now()");
        Assert.Empty((await ClaimAsync(database, worker, 10)).Jobs);
        await database.ExecuteAsync("UPDATE outbox.workers SET dead_at = NULL");
        Assert.Single((await ClaimAsync(database, worker, 10)).Jobs);
    }

    [Fact]
    public async Task Its_first_jobs_with_a_group_do_not_wait_for_the_thousands_without_and_turns_are_taken_from_then_on()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> ran = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, context, _) =>
            {
                ran.Enqueue(context.Group ?? "none");
                return Task.CompletedTask;
            }),
            w => w.Queue("default", 4, new QueueLimits()));
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, 20_000).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
        await Eventually.TrueAsync(() => ran.Count > 100, "those without a group run");
        Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_groups"));
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, 10).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "small" })), Cancellation);
        var then = ran.Count;
        await Eventually.TrueAsync(() => ran.Count(each => each == "small") == 10, "the small group has run");
        Assert.InRange(ran.ToList().LastIndexOf("small") - then, 0, 6000);
        await QueueLimitsTests.DrainedAsync(database, 60);
        Assert.Equal(20_010, ran.Count);

        // Of its groups one is remembered, so that nobody looks for jobs that have one.
        await Eventually.TrueAsync(
            async () =>
            {
                await worker.Queue.ForgetGroupsAsync(Cancellation);
                return (await database.TextsAsync("SELECT job_group FROM outbox.job_groups")) is ["small"];
            },
            "the other is forgotten");
        Assert.True(await database.ScalarAsync<bool>("SELECT outbox.takes_turns('default')"));
    }

    // What waits for room was seen by a claim, and is not to be passed over as the jobs of a paused kind are.
    [Fact]
    public async Task What_waits_for_room_is_not_passed_over_while_a_kind_is_paused()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).PauseKindAsync("other", cancellationToken: Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 5).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
        await database.ExecuteAsync("UPDATE outbox.jobs SET run_at = now() - interval '1 minute'");
        var goOn = new SemaphoreSlim(0);
        var claims = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = point =>
                {
                    if (point == "claim answered")
                        Interlocked.Increment(ref claims);
                    return Task.CompletedTask;
                };
                o.Handle<NumberJob>((_, _, token) => goOn.WaitAsync(token));
            },
            w =>
            {
                w.Queue("default", 4, new QueueLimits { Concurrency = 1 });
                w.PollInterval = TimeSpan.FromHours(1);
                w.Listen = false;
            });
        await Eventually.TrueAsync(() => Volatile.Read(ref claims) >= 4, "claims have found no room");
        goOn.Release(5);
        await QueueLimitsTests.DrainedAsync(database);
    }

    private static async Task<ClaimAnswer> ClaimAsync(ScratchDatabase database, Guid worker, int limit)
    {
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        return (await new JobQueue(database.DataSource).ClaimAsync(connection, [ClaimRequest.Everything("default", limit, worker, ["number"]) with { Limited = true }], prepare: false))[0];
    }
}
