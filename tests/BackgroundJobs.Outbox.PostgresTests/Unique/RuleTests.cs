using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Unique;

// What each rule lets run, step by step.
public sealed class RuleTests
{
    private static readonly TimeSpan Hour = TimeSpan.FromHours(1);
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task While_one_waits_another_is_not_run_and_one_that_runs_does_not_count()
    {
        await using var keys = await Keys.OpenAsync();
        var first = await keys.SettledAsync(UniqueJob.WhileWaiting("7"));
        var second = await keys.SettledAsync(UniqueJob.WhileWaiting("7"));
        Assert.Equal(("waiting", "met first"), (await keys.StateAsync(first), await keys.StateAsync(second, ("first", first))));

        await keys.ClaimAsync(first);
        var third = await keys.SettledAsync(UniqueJob.WhileWaiting("7"));
        Assert.Equal(("running", "waiting"), (await keys.StateAsync(first), await keys.StateAsync(third)));

        // One that waits for its next attempt, or its time, waits.
        await keys.ClaimAsync(third);
        await keys.FailAsync(third);
        Assert.Equal("met third", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileWaiting("7")), ("third", third)));
        var later = await keys.SettledAsync(UniqueJob.WhileWaiting("8"), Hour);
        Assert.Equal("met later", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileWaiting("8")), ("later", later)));
    }

    // It has read what it read.
    [Fact]
    public async Task One_that_has_left_a_cursor_or_steps_counts_as_running()
    {
        await using var keys = await Keys.OpenAsync();
        foreach (var (key, cursor) in new[] { ("a", "7"), ("b", null) })
        {
            var begun = await keys.SettledAsync(UniqueJob.WhileWaiting(key));
            await keys.ClaimAsync(begun);
            if (cursor is null)
                await keys.Database.ExecuteAsync($"UPDATE outbox.jobs SET steps = jsonb_build_object('charge', 1) WHERE id = '{begun}'");
            await keys.FailAsync(begun, cursor);
            Assert.Equal("met begun", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished(key)), ("begun", begun)));
            var next = await keys.SettledAsync(UniqueJob.WhileWaiting(key));
            Assert.Equal("waiting", await keys.StateAsync(next));
            var last = await keys.SettledAsync(UniqueJob.Replace(key));
            Assert.Equal(("retrying", "met last"), (await keys.StateAsync(begun), await keys.StateAsync(next, ("last", last))));
        }
    }

    [Fact]
    public async Task While_one_is_unfinished_another_is_not_run()
    {
        await using var keys = await Keys.OpenAsync();
        var first = await keys.SettledAsync(UniqueJob.WhileUnfinished("7"));
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished("7")), ("first", first)));
        await keys.ClaimAsync(first);
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished("7")), ("first", first)));
        await keys.FailAsync(first);
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished("7")), ("first", first)));
        await keys.RunAsync(first);
        Assert.Equal("waiting", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished("7"))));
    }

    // Its kind keeps no history, and it is remembered all the same.
    [Fact]
    public async Task Within_a_period_one_that_has_completed_counts_too_and_one_that_gave_up_does_not()
    {
        await using var keys = await Keys.OpenAsync();
        var first = await keys.SettledAsync(UniqueJob.Within("7", Hour));
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.Within("7", Hour)), ("first", first)));
        await keys.ClaimAsync(first);
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.Within("7", Hour)), ("first", first)));
        await keys.FinishAsync(first);
        await keys.PassAsync("59 min");
        Assert.Equal("met first", await keys.StateAsync(await keys.SettledAsync(UniqueJob.Within("7", Hour)), ("first", first)));

        // What was not run does not make the period longer.
        await keys.PassAsync("1 min");
        var next = await keys.SettledAsync(UniqueJob.Within("7", Hour));
        Assert.Equal("waiting", await keys.StateAsync(next));
        await keys.RunAsync(next, JobState.Dead);
        var last = await keys.SettledAsync(UniqueJob.Within("7", Hour));
        Assert.Equal("waiting", await keys.StateAsync(last));
        await keys.RunAsync(last, JobState.Cancelled);
        Assert.Equal("waiting", await keys.StateAsync(await keys.SettledAsync(UniqueJob.Within("7", Hour))));
    }

    [Fact]
    public async Task A_replacement_takes_the_place_of_the_one_that_waits_and_never_of_one_that_runs()
    {
        await using var keys = await Keys.OpenAsync();
        var first = await keys.SettledAsync(UniqueJob.Replace("7"), Hour);
        var due = await keys.DueAsync(first);
        var second = await keys.SettledAsync(UniqueJob.Replace("7"));
        Assert.Equal(("met second", "scheduled"), (await keys.StateAsync(first, ("second", second)), await keys.StateAsync(second)));
        Assert.Equal(due, await keys.DueAsync(second));

        await keys.ClaimAsync(second);
        var third = await keys.SettledAsync(UniqueJob.Replace("7"));
        Assert.Equal(("running", "waiting"), (await keys.StateAsync(second), await keys.StateAsync(third)));

        // The one that ran and comes back, and the one that waits.
        await keys.FailAsync(second);
        due = await keys.DueAsync(third);
        var last = await keys.SettledAsync(UniqueJob.Replace("7"));
        Assert.Equal(("met last", "met last"), (await keys.StateAsync(second, ("last", last)), await keys.StateAsync(third, ("last", last))));
        Assert.Equal(due, await keys.DueAsync(last));
    }

    // Its transaction began first, and committed last.
    [Fact]
    public async Task The_newest_runs_whichever_is_committed_last()
    {
        await using var keys = await Keys.OpenAsync();
        await using var slow = await keys.BeginAsync();
        var older = await keys.Queue.EnqueueAsync(slow, new Support.NumberJob(1), new() { Unique = UniqueJob.Replace("7") }, Cancellation);
        var newer = await keys.SettledAsync(UniqueJob.Replace("7"));
        await slow.CommitAsync(Cancellation);
        await keys.SettleAsync();
        Assert.Equal(("met newer", "waiting"), (await keys.StateAsync(older, ("newer", newer)), await keys.StateAsync(newer)));
    }

    [Fact]
    public async Task A_debounced_one_is_due_when_no_more_have_come_for_its_delay_or_at_most_so_long_after_the_first()
    {
        await using var keys = await Keys.OpenAsync();
        var rule = UniqueJob.Debounce("7", 10 * Second, max: 25 * Second);
        var first = await keys.SettledAsync(rule);
        Assert.Equal(await keys.CreatedAsync(first) + (10 * Second), await keys.DueAsync(first));
        await keys.PassAsync("8 s");
        var second = await keys.SettledAsync(rule);
        Assert.Equal("met second", await keys.StateAsync(first, ("second", second)));
        Assert.Equal(await keys.CreatedAsync(second) + (10 * Second), await keys.DueAsync(second));
        await keys.PassAsync("9 s");
        var third = await keys.SettledAsync(rule);
        var until = await keys.DueAsync(third) - await keys.CreatedAsync(third);
        Assert.InRange(until, 6 * Second, 8 * Second);

        // One that runs is the end of it: the next one begins anew.
        await keys.ClaimAsync(third);
        var fourth = await keys.SettledAsync(rule);
        Assert.Equal(await keys.CreatedAsync(fourth) + (10 * Second), await keys.DueAsync(fourth));
        Assert.Equal("running", await keys.StateAsync(third));
    }

    [Fact]
    public async Task A_throttled_one_begins_a_period_after_the_last_one_and_the_newest_is_the_one()
    {
        await using var keys = await Keys.OpenAsync();
        var rule = UniqueJob.Throttle("7", Hour);
        var first = await keys.SettledAsync(rule);
        Assert.Equal("waiting", await keys.StateAsync(first));
        await keys.ClaimAsync(first);
        var began = await keys.Database.ScalarAsync<DateTime>($"SELECT claimed_at FROM outbox.jobs WHERE id = '{first}'");
        var second = await keys.SettledAsync(rule);
        Assert.Equal(began + Hour, await keys.DueAsync(second));
        await keys.FinishAsync(first);
        var third = await keys.SettledAsync(rule);
        Assert.Equal(("met third", began + Hour), (await keys.StateAsync(second, ("third", third)), await keys.DueAsync(third)));

        // It began late, and the next one counts from there; of the history too, which its kind does not keep.
        await keys.PassAsync("61 min");
        await keys.ClaimAsync(third);
        began = await keys.Database.ScalarAsync<DateTime>($"SELECT claimed_at FROM outbox.jobs WHERE id = '{third}'");
        await keys.FinishAsync(third);
        var fourth = await keys.SettledAsync(rule);
        Assert.Equal(began + Hour, await keys.DueAsync(fourth));
        await keys.RunAsync(fourth);
        await keys.PassAsync("60 min");
        Assert.Equal("waiting", await keys.StateAsync(await keys.SettledAsync(rule)));
    }

    [Fault("D17", "the same unique key many times in one call", "one job is let go, the others say which one they met")]
    [Fact]
    public async Task Of_several_that_arrive_together_the_first_is_the_one_and_keys_and_kinds_do_not_meet()
    {
        await using var keys = await Keys.OpenAsync();
        List<NewJob> jobs = [.. Enumerable.Range(0, 130).Select(n => NewJob.Create(new Support.NumberJob(n), new() { Unique = UniqueJob.WhileWaiting($"{n % 2}") }))];
        jobs.Add(NewJob.Create(new Support.OtherJob("same key"), new() { Unique = UniqueJob.WhileWaiting("1") }));
        await keys.Queue.EnqueueAsync(jobs.AsEnumerable().Reverse(), Cancellation);
        Assert.Equal(3, await keys.SettleAsync());
        Assert.Equal(
            jobs.Where((_, n) => n is 0 or 1 or 130).Select(each => $"{each.Id}").Order(),
            await keys.Database.TextsAsync("SELECT id::text FROM outbox.jobs ORDER BY id::text COLLATE \"C\""));
        Assert.Equal($"{jobs[1].Id} 64", await keys.Database.ScalarAsync<string>($"SELECT concat_ws(' ', met_id, count(*)) FROM outbox.job_history WHERE unique_key = '1' GROUP BY met_id"));
    }

    [Fact]
    public async Task What_an_operator_cancels_or_deletes_does_not_count()
    {
        await using var keys = await Keys.OpenAsync();
        JobAdmin admin = new(keys.Database.Operator);
        var first = await keys.SettledAsync(UniqueJob.WhileUnfinished("7"));
        Assert.True(await admin.CancelAsync(first, cancellationToken: Cancellation));
        var second = await keys.SettledAsync(UniqueJob.WhileUnfinished("7"));
        Assert.Equal("waiting", await keys.StateAsync(second));
        Assert.True(await admin.DeleteAsync(second, Cancellation));
        var third = await keys.SettledAsync(UniqueJob.WhileUnfinished("7"));
        Assert.Equal("waiting", await keys.StateAsync(third));

        // Asked to stop, and not stopped yet.
        await keys.ClaimAsync(third);
        Assert.True(await admin.CancelAsync(third, cancellationToken: Cancellation));
        Assert.Equal("waiting", await keys.StateAsync(await keys.SettledAsync(UniqueJob.WhileUnfinished("7"))));

        // And one that was not compared yet can be cancelled and deleted as any other.
        var blocked = await keys.EnqueueAsync(UniqueJob.WhileWaiting("8"));
        Assert.Equal("blocked", await keys.StateAsync(blocked));
        Assert.True(await admin.CancelAsync(blocked, cancellationToken: Cancellation));
        blocked = await keys.EnqueueAsync(UniqueJob.WhileWaiting("8"));
        Assert.True(await admin.DeleteAsync(blocked, Cancellation));
        Assert.Equal(0, await keys.SettleAsync());
    }

    [Fact]
    public async Task A_retry_brings_one_back_to_be_compared_anew()
    {
        await using var keys = await Keys.OpenAsync();
        JobAdmin admin = new(keys.Database.Operator);
        var first = await keys.SettledAsync(UniqueJob.WhileWaiting("7"));
        var second = await keys.SettledAsync(UniqueJob.WhileWaiting("7"));
        Assert.True(await admin.RetryAsync(second, Cancellation));
        Assert.Equal("blocked", await keys.StateAsync(second));
        await keys.SettleAsync();
        Assert.Equal("met first", await keys.StateAsync(second, ("first", first)));
        await keys.RunAsync(first, JobState.Dead);
        Assert.True(await admin.RetryAsync(second, Cancellation));
        await keys.SettleAsync();
        Assert.Equal("waiting", await keys.StateAsync(second));
        Assert.True(await admin.RetryAsync(first, Cancellation));
        await keys.SettleAsync();
        Assert.Equal("met second", await keys.StateAsync(first, ("second", second)));
    }
}
