using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.History;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Chaos;

// The promises of groups, each broken by a history made for it, and histories that look like it and are well.
public sealed class GroupCheckerTests : IDisposable
{
    private static readonly DateTimeOffset Begin = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly List<string> broken = [];
    private readonly GroupChecker checker;
    private readonly List<(LogLine, DateTimeOffset)> operators = [];
    private int second;

    public GroupCheckerTests() => checker = new((promise, _) => broken.Add(promise));

    public void Dispose() => Assert.All(broken, each => Assert.Contains(each, Promise.All));

    [Theory]
    [InlineData(0, 6, 4)]
    [InlineData(1, 7, 4)]
    [InlineData(1, 3, 1)]
    public void More_jobs_than_a_limit_allows_are_found(int times, int jobs, int groups)
    {
        for (var job = 1; job <= jobs; job++)
            Put(job, GroupQueues.Limited, $"{job % groups}", isHeld: true);
        Expect(Promise.Limits, times);
        Assert.Equal(jobs, checker.MostOfQueue);
    }

    [Fact]
    public void What_has_ended_or_was_rescued_takes_no_room()
    {
        Put(1, GroupQueues.Fifo, "a", isHeld: true);
        Put(1, GroupQueues.Fifo, "a", isHeld: false);
        Put(2, GroupQueues.Fifo, "a", isHeld: true);
        End(2, "completed");
        Put(1, GroupQueues.Fifo, "a", isHeld: true);
        Expect(Promise.Limits, 0);
    }

    [Theory]
    [InlineData(GroupQueues.Fifo)]
    [InlineData(GroupQueues.Strict)]
    public void Two_at_a_time_in_an_ordered_group_are_found(string queue)
    {
        Put(1, queue, "a", isHeld: true);
        Put(2, queue, "b", isHeld: true);
        Expect(Promise.Limits, 0);
        Put(3, queue, "a", isHeld: true);
        Assert.Contains(Promise.Limits, broken);
    }

    [Theory]
    [InlineData(0, 1, 30, 40)]
    [InlineData(1, 2, 30, 40)]
    [InlineData(1, 2, 30, 30)]
    [InlineData(0, 1, 30, 30)]
    [InlineData(0, 2, 0, 40)]
    public void A_job_that_passes_one_before_it_is_found(int times, int started, int firstDue, int secondDue)
    {
        Put(1, GroupQueues.Fifo, "a", isHeld: false, firstDue);
        Put(2, GroupQueues.Fifo, "a", isHeld: false, secondDue);
        Put(3, GroupQueues.Fifo, "b", isHeld: false, 10);
        Put(started, GroupQueues.Fifo, "a", isHeld: true, started == 1 ? firstDue : secondDue);
        Expect(Promise.Order, times);
        Assert.Equal(started == 1 ? 1 : 0, checker.Ordered);
    }

    [Theory]
    [InlineData(1, GroupQueues.Strict)]
    [InlineData(0, GroupQueues.Fifo)]
    public void A_job_that_starts_while_the_one_before_it_waits_for_its_next_attempt_is_found(int times, string queue)
    {
        Put(1, queue, "a", isHeld: true);
        Put(1, queue, "a", isHeld: false, 50);
        Put(2, queue, "a", isHeld: true);
        Expect(Promise.Order, times);
    }

    [Fact]
    public void What_has_begun_in_strict_order_goes_on_before_the_others()
    {
        Put(1, GroupQueues.Strict, "a", isHeld: true);
        Put(2, GroupQueues.Strict, "a", isHeld: false, 30);
        Put(1, GroupQueues.Strict, "a", isHeld: false, 50);
        Put(1, GroupQueues.Strict, "a", isHeld: true, 50);
        End(1, "completed");
        Put(2, GroupQueues.Strict, "a", isHeld: true, 30);
        Expect(Promise.Order, 0);
    }

    [Theory]
    [InlineData(1, "dead", null)]
    [InlineData(1, "dead", "strict b")]
    [InlineData(0, "dead", "strict a")]
    [InlineData(0, "completed", null)]
    [InlineData(0, "cancelled", null)]
    public void A_dead_job_of_a_strict_group_that_nobody_passed_over_is_found(int times, string state, string? resumed)
    {
        Put(1, GroupQueues.Strict, "a", isHeld: true);
        End(1, state);
        Operate(resumed);
        Put(2, GroupQueues.Strict, "a", isHeld: true);
        checker.Finish(operators);
        Expect(Promise.Order, times);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_operator_who_came_before_or_afterwards_has_passed_nothing_over(bool isBefore)
    {
        if (isBefore)
            Operate("strict a");
        Put(9, GroupQueues.Limited, "a", isHeld: true);
        Put(1, GroupQueues.Strict, "a", isHeld: true);
        End(1, "dead");
        Put(2, GroupQueues.Strict, "a", isHeld: true);
        if (!isBefore)
        {
            second += 10;
            Operate("strict a");
        }

        checker.Finish(operators);
        Expect(Promise.Order, 1);
    }

    // A pause of ten seconds, of the group that is said; each step takes a second.
    [Theory]
    [InlineData(1, "a", 5)]
    [InlineData(0, "b", 5)]
    [InlineData(0, "a", 20)]
    public void A_job_that_starts_while_an_operator_has_its_group_paused_is_found(int times, string paused, int startedAt)
    {
        Put(1, GroupQueues.Limited, "a", isHeld: false);
        Pause(paused, 10);
        second = startedAt;
        Put(1, GroupQueues.Limited, "a", isHeld: true);
        Expect(Promise.Paused, times);
        Assert.Equal(paused == "a" ? 1 : 0, checker.Paused);
    }

    [Theory]
    [InlineData(1, null)]
    [InlineData(1, "b")]
    [InlineData(0, "a")]
    public void A_pause_without_an_end_lasts_until_its_group_is_resumed(int times, string? resumed)
    {
        Put(1, GroupQueues.Limited, "a", isHeld: false);
        Pause("a", null);
        second = 10_000;
        if (resumed is not null)
            Note("resume group", resumed, "");
        Put(1, GroupQueues.Limited, "a", isHeld: true);
        Expect(Promise.Paused, times);
    }

    [Fact]
    public void What_ran_before_its_group_was_paused_runs_on()
    {
        Put(1, GroupQueues.Limited, "a", isHeld: true);
        Pause("a", null);
        End(1, "completed");
        Expect(Promise.Paused, 0);
        Assert.Equal(0, checker.Paused);
    }

    // A claim at the very moment is none too early.
    [Theory]
    [InlineData(1, 9_999_999)]
    [InlineData(0, 10_000_000)]
    public void A_pause_counts_to_the_microsecond(int times, int microseconds)
    {
        Pause("a", 10);
        Put(1, GroupQueues.Limited, "a", isHeld: true, claimed: Begin.AddMicroseconds(microseconds));
        Expect(Promise.Paused, times);
    }

    // For a second from its start, which is all that is certain.
    [Theory]
    [InlineData(1, "a", true, 0.9)]
    [InlineData(0, "a", true, 1)]
    [InlineData(0, "b", true, 0.9)]
    [InlineData(0, "a", false, 0.9)]
    public void A_job_that_starts_in_a_group_that_was_pushed_back_is_found(int times, string group, bool isPushedBack, double after)
    {
        Put(1, GroupQueues.Limited, "a", isHeld: true, claimed: Begin);
        Put(2, GroupQueues.Limited, "a", isHeld: false);
        Put(1, GroupQueues.Limited, "a", isHeld: false, due: 3, isPushedBack: isPushedBack);
        Put(3, GroupQueues.Limited, group, isHeld: true, claimed: Begin.AddSeconds(after));
        Expect(Promise.Paused, times);
        Assert.Equal(isPushedBack ? 1 : 0, checker.Paused);
    }

    [Fact]
    public void Of_two_push_backs_the_longer_one_counts()
    {
        Put(1, GroupQueues.Limited, "a", isHeld: true, claimed: Begin);
        Put(2, GroupQueues.Limited, "a", isHeld: true, claimed: Begin.AddSeconds(5));
        Put(2, GroupQueues.Limited, "a", isHeld: false, due: 8, isPushedBack: true);
        Put(1, GroupQueues.Limited, "a", isHeld: false, due: 8, isPushedBack: true);
        Put(3, GroupQueues.Limited, "a", isHeld: true, claimed: Begin.AddSeconds(5.9));
        Expect(Promise.Paused, 1);
    }

    // The group is paused a moment before its job is given back: between the two an operator may have resumed it.
    [Fact]
    public void A_push_back_that_an_operator_may_have_undone_is_not_counted()
    {
        Put(1, GroupQueues.Limited, "a", isHeld: true, claimed: Begin);
        Note("resume group", "a", "");
        Put(1, GroupQueues.Limited, "a", isHeld: false, due: 3, isPushedBack: true);
        Put(2, GroupQueues.Limited, "a", isHeld: true, claimed: Begin.AddSeconds(1));
        Expect(Promise.Paused, 0);
    }

    [Theory]
    [InlineData("full")]
    [InlineData("later")]
    [InlineData("failed")]
    [InlineData("ready")]
    public async Task A_group_that_is_out_of_its_line_at_the_end_is_found(string state)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("INSERT INTO outbox.job_groups (queue, job_group, state) VALUES ('strict', 'a', 'idle')");
        Assert.Null(await database.ScalarAsync<string?>(GroupChecker.OutOfLine));
        await database.ExecuteAsync($"INSERT INTO outbox.job_groups (queue, job_group, state) VALUES ('strict', 'b', '{state}')");
        Assert.Equal($"strict b {state}", await database.ScalarAsync<string?>(GroupChecker.OutOfLine));
    }

    // Held or waiting, and due at so many seconds after the beginning; each transaction comes a second after the one before it.
    private void Put(int job, string queue, string group, bool isHeld, int due = 0, DateTimeOffset? claimed = null, bool isPushedBack = false) => Hear(
        $"table outbox.jobs: UPDATE: id[uuid]:'{Id(job)}' queue[text]:'{queue}' job_group[text]:'{group}' priority[smallint]:2 run_at[timestamp with time zone]:'{Begin.AddSeconds(due):yyyy-MM-dd HH:mm:ss}+00' "
        + $"cancel_requested_at[timestamp with time zone]:null lease_token[uuid]:{(isHeld ? $"'{Id(job)}'" : "null")} attempt[integer]:1 failures[smallint]:0 "
        + $"claimed_at[timestamp with time zone]:{(isHeld ? $"'{claimed ?? Begin.AddSeconds(second):yyyy-MM-dd HH:mm:ss.ffffff}+00'" : "null")} "
        + $"args[jsonb]:'{{\"failures\": 0, \"isPushedBack\": {(isPushedBack ? "true" : "false")}, \"milliseconds\": 5}}'");

    // Until so many seconds after the beginning.
    private void Pause(string group, int? until) =>
        Note("pause group", group, until is { } known ? $", \"until\": \"{Begin.AddSeconds(known):O}\"" : ", \"until\": null");

    private void Note(string verb, string group, string more) => Hear(
        $"table outbox.operations: INSERT: at[timestamp with time zone]:'2026-01-01 00:00:00+00' verb[text]:'{verb}' what[jsonb]:'{{\"group\": \"{group}\", \"queue\": \"{GroupQueues.Limited}\"{more}}}'");

    private void End(int job, string state) => Hear(
        $"table outbox.jobs: DELETE: id[uuid]:'{Id(job)}'",
        $"table outbox.job_history_20260101: INSERT: id[uuid]:'{Id(job)}' state[text]:'{state}'");

    private void Hear(params string[] lines) => checker.Heard(new($"{second}", Begin.AddSeconds(++second), [.. lines.Select(Change.Parse)]));

    private void Operate(string? resumed)
    {
        if (resumed is null)
            return;
        foreach (var word in new[] { Word.Resume, Word.Resumed })
            operators.Add((new LogLine(0, word, Guid.Empty, Note: resumed), Begin.AddSeconds(second)));
    }

    private static Guid Id(int number) => new($"00000000-0000-7000-8000-{number:000000000000}");

    private void Expect(string promise, int times) => Assert.Equal(Enumerable.Repeat(promise, times), broken);
}
