using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// An end that was not told: its process died between the record and the word to the group, which stays out of line.
public sealed class MissedGroupsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(GroupOrder.Any)]
    [InlineData(GroupOrder.Strict)]
    [Fault("J16", "the same, of three groups, while no worker runs", "the next worker finds them at its start, and says so")]
    public async Task A_worker_finds_them_by_itself_and_says_so(GroupOrder order)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await PrepareAsync(database, order, 3);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await QueueLimitsTests.DrainedAsync(database);
        Assert.Contains("Put 3 groups of queue default in line again", worker.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_worker_looks_for_all_and_not_often()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await database.ExecuteAsync("INSERT INTO outbox.queues (name) VALUES ('unlimited')");
        await PrepareAsync(database, GroupOrder.Any, 1);
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
        await using (var transaction = await connection.BeginTransactionAsync(Cancellation))
        {
            // Somebody has it at this moment, and need not be waited for.
            await using var hold = new Npgsql.NpgsqlCommand("SELECT FROM outbox.queues FOR NO KEY UPDATE", connection, transaction);
            await hold.ExecuteNonQueryAsync(Cancellation);
            Assert.Empty(await queue.FreeMissedGroupsAsync(["default", "unlimited", "unknown"], TimeSpan.Zero, Cancellation));
        }

        Assert.Equal([("default", 1)], await queue.FreeMissedGroupsAsync(["default", "unlimited", "unknown"], TimeSpan.Zero, Cancellation));
        await database.ExecuteAsync("UPDATE outbox.job_groups SET state = 'full', look_at = 'infinity'");
        Assert.Empty(await queue.FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation));

        // Half a minute later; and after the server's clock was set back.
        foreach (var moment in new[] { "now() - interval '30 s'", "now() + interval '1 day'" })
        {
            await database.ExecuteAsync($"UPDATE outbox.queues SET groups_looked_at = {moment}; UPDATE outbox.job_groups SET state = 'full', look_at = 'infinity'");
            Assert.Equal([("default", 1)], await queue.FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation));
        }
    }

    [Fact]
    public async Task What_runs_or_is_paused_or_waits_for_its_first_job_stays_where_it_is()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var admin = new JobAdmin(database.Operator);
        await PrepareAsync(database, GroupOrder.Strict, 4, ended: false);
        var running = await database.TextsAsync("SELECT id::text FROM outbox.jobs WHERE lease_token IS NOT NULL ORDER BY job_group");
        await admin.PauseGroupAsync("default", "1", null, null, Cancellation);
        await database.ExecuteAsync($"""
            UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE id IN ('{running[0]}', '{running[1]}', '{running[2]}');
            UPDATE outbox.jobs SET run_at = now() + interval '1 hour' WHERE id IN ('{running[1]}', '{running[2]}');
            UPDATE outbox.job_groups SET state = 'later', look_at = now() + interval '1 hour' WHERE job_group IN ('2', '3')
            """);
        Assert.Empty(await queue.FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation));

        await database.ExecuteAsync($"UPDATE outbox.jobs SET cancel_requested_at = now() WHERE id = '{running[2]}'; UPDATE outbox.queues SET groups_looked_at = '-infinity'");
        Assert.Equal([("default", 1)], await queue.FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation));
        Assert.Equal(["1 later", "2 later", "3 ready", "4 full"], await database.TextsAsync("SELECT job_group || ' ' || state FROM outbox.job_groups ORDER BY job_group"));
    }

    [Fact]
    public async Task An_end_that_is_being_told_is_none()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await PrepareAsync(database, GroupOrder.Any, 2);
        OutboxOptions options = new();

        // The first is told just now, and is full again, with a job that has ended too.
        options.FaultPoint = async point =>
        {
            if (point == "groups missed")
                await database.ExecuteAsync("UPDATE outbox.job_groups SET state = 'full' WHERE job_group = '1'");
        };
        Assert.Equal([("default", 1)], await new JobQueue(database.DataSource, options).FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation));
        Assert.Equal(["1 full", "2 ready"], await database.TextsAsync("SELECT job_group || ' ' || state FROM outbox.job_groups ORDER BY job_group"));
    }

    // Groups "1", "2" and so on, each with a job that runs, or did, and one behind it.
    private static async Task PrepareAsync(ScratchDatabase database, GroupOrder order, int groups, bool ended = true)
    {
        var queue = new JobQueue(database.DataSource);
        QueueLimits limits = order == GroupOrder.Any ? new() { GroupConcurrency = 1 } : new() { GroupOrder = order };
        await new JobAdmin(database.Operator).SetLimitsAsync("default", limits, Cancellation);
        await queue.EnqueueAsync(Enumerable.Range(0, 2 * groups).Select(n => NewJob.Create(new NumberJob(n), new() { Group = $"{1 + (n % groups)}" })), Cancellation);
        var worker = await Workers.RegisterAsync(database, TimeSpan.FromDays(1));
        var jobs = await QueueLimitsTests.ClaimAsync(queue, worker);
        Assert.Equal(groups, jobs.Count);
        Assert.Empty(await QueueLimitsTests.ClaimAsync(queue, worker));
        Assert.Equal((long)groups, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_groups WHERE state = 'full' AND look_at = 'infinity'"));
        if (!ended)
            return;
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        Assert.Empty(await queue.FinishAsync(connection, [.. jobs.Select(job => new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null))], prepare: false));
    }
}
