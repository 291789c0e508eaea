using System.Collections.Concurrent;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.Time.Testing;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// Jobs on a schedule: a timer in each web server.
public sealed class NightlyJobTests
{
    private static readonly DateTimeOffset Evening = new(2026, 11, 26, 20, 0, 0, TimeSpan.Zero);

    [Fact]
    public void Naive_a_timer_in_each_process_runs_the_nightly_job_once_per_process_and_not_at_all_if_none_lived_at_two()
    {
        var time = new FakeTimeProvider(Evening);
        List<DateTimeOffset> bills = [];
        using (var first = Nightly(time, bills))
        using (var second = Nightly(time, bills))
            time.Advance(TimeSpan.FromHours(9));
        Assert.Equal(2, bills.Count);

        // The next night there is a deployment from five to two till five past two.
        time.Advance(TimeSpan.FromHours(20.9));
        using (var old = Nightly(time, bills))
            time.Advance(TimeSpan.FromMinutes(1));
        time.Advance(TimeSpan.FromMinutes(10));
        using (var next = Nightly(time, bills))
            time.Advance(TimeSpan.FromHours(20));
        Assert.Equal(2, bills.Count);
    }

    [Fact]
    public async Task Ours_a_tick_is_one_job_however_many_workers_live_and_comes_late_if_none_did()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<ScheduleTick> bills = [];

        // Declared yesterday; all workers were down when its hour came, and come back together.
        var hour = TimeProvider.System.GetUtcNow().AddHours(-1).Hour;
        await database.ExecuteAsync($$"""
            INSERT INTO outbox.schedules (name, kind, args, cron) VALUES ('bills', 'number', '{"number": 1}', '0 {{hour}} * * *');
            UPDATE outbox.schedules SET changed_at = now() - interval '23 hours'
            """);
        List<WorkerHost> workers = [];
        for (var n = 0; n < 3; n++)
        {
            workers.Add(await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, context, _) =>
            {
                bills.Enqueue(context.Tick!);
                return Task.CompletedTask;
            })));
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1, "the bills are sent");
        foreach (var worker in workers)
            await worker.DisposeAsync();

        // Once, and for the hour that they were meant for, though it is later now.
        var tick = Assert.Single(bills);
        Assert.Equal(("bills", hour, 0), (tick.Schedule, tick.At.Hour, tick.At.Minute));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
        Assert.True(await database.ScalarAsync<bool>("SELECT next_at = last_at + interval '1 day' FROM outbox.schedules"));
    }

    // What the tutorials do: sleep until two, work, begin again.
    private static ITimer Nightly(TimeProvider time, List<DateTimeOffset> bills)
    {
        var now = time.GetUtcNow();
        var two = now.Date.AddHours(2) is var today && today > now.UtcDateTime ? today : today.AddDays(1);
        return time.CreateTimer(_ => bills.Add(time.GetUtcNow()), null, two - now.UtcDateTime, TimeSpan.FromDays(1));
    }
}
