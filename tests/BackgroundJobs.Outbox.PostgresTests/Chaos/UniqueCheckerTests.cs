using BackgroundJobs.Outbox.Chaos.History;

namespace BackgroundJobs.Outbox.PostgresTests.Chaos;

// The promises of unique keys, each broken by a history made for it, and histories that look like it and are well. Each transaction comes two seconds after
// the one before it.
public sealed class UniqueCheckerTests
{
    private readonly List<string> broken = [];
    private readonly UniqueChecker checker;
    private int seconds;

    public UniqueCheckerTests() => checker = new((promise, _) => broken.Add(promise));

    [Theory]
    [InlineData(0, "waiting", true, "completed")]
    [InlineData(0, "unfinished", true, "completed")]
    [InlineData(0, "waiting", false, "cancelled")]
    [InlineData(1, "waiting", false, "completed")]
    [InlineData(0, "unfinished", false, "completed")]
    public void An_update_that_nobody_saw_is_found(int times, string rule, bool isRun, string end)
    {
        Hear(Arrives(1, rule));
        Hear(Waits(1, rule));
        Hear(Arrives(2, rule));
        Hear(Ends(2, "cancelled", met: 1));
        if (isRun)
            Hear(Runs(1, rule));
        Hear(Ends(1, end));
        Expect(times);
        Assert.Equal((1, 1), (checker.LetGo, checker.Met));
    }

    [Theory]
    [InlineData(1, "waiting")]
    [InlineData(0, "unfinished")]
    public void What_meets_one_that_runs_already_is_found(int times, string rule)
    {
        Hear(Arrives(1, rule));
        Hear(Waits(1, rule));
        Hear(Runs(1, rule));
        Hear(Arrives(2, rule));
        Hear(Ends(2, "cancelled", met: 1));
        Hear(Waits(1, rule));
        Hear(Runs(1, rule));
        Hear(Ends(1, "completed"));
        Expect(times);
    }

    [Fact]
    public void What_meets_one_that_had_ended_before_it_came_is_found()
    {
        Hear(Arrives(1, "unfinished"));
        Hear(Waits(1, "unfinished"));
        Hear(Runs(1, "unfinished"));
        Hear(Ends(1, "completed"));
        Hear(Arrives(2, "unfinished"));
        Hear(Ends(2, "cancelled", met: 1));
        Expect(1);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(1, 2)]
    public void What_meets_one_of_another_key_is_found(int times, int met)
    {
        Hear(Arrives(1, "waiting"));
        Hear(Waits(1, "waiting"));
        Hear(Arrives(2, "waiting", "other"));
        Hear(Waits(2, "waiting", "other"));
        Hear(Arrives(3, "waiting"));
        Hear(Ends(3, "cancelled", met));
        Hear(Runs(1, "waiting"), Runs(2, "waiting", "other"));
        Expect(times);
    }

    [Theory]
    [InlineData(1, "waiting", false, false)]
    [InlineData(0, "waiting", true, false)]
    [InlineData(1, "replace", false, false)]
    [InlineData(1, "unfinished", true, false)]
    [InlineData(0, "unfinished", true, true)]
    public void A_job_that_is_let_go_beside_one_that_is_enough_is_found(int times, string rule, bool isRunning, bool isCancelled)
    {
        Hear(Arrives(1, rule));
        Hear(Waits(1, rule));
        if (isRunning)
            Hear(Runs(1, rule, isCancelled: isCancelled));
        Hear(Arrives(2, rule));
        Hear(Waits(2, rule));
        Expect(times);
    }

    [Fact]
    public void What_goes_back_to_wait_after_another_one_came_is_not_counted()
    {
        Hear(Arrives(1, "waiting"));
        Hear(Waits(1, "waiting"));
        Hear(Runs(1, "waiting"));
        Hear(Arrives(2, "waiting"));
        Hear(Waits(1, "waiting"));
        Hear(Waits(2, "waiting"));
        Expect(0);
    }

    [Fact]
    public void The_newest_takes_the_place_of_the_one_that_waits()
    {
        Hear(Arrives(1, "replace"));
        Hear(Waits(1, "replace"));
        Hear(Arrives(2, "replace"));
        Hear([Waits(2, "replace"), .. Ends(1, "cancelled", met: 2)]);
        Hear(Runs(2, "replace"));
        Hear(Ends(2, "completed"));
        Expect(0);
    }

    [Fact]
    public void What_runs_is_never_ended_in_favour_of_another_one()
    {
        Hear(Arrives(1, "replace"));
        Hear(Waits(1, "replace"));
        Hear(Runs(1, "replace"));
        Hear(Arrives(2, "replace"));
        Hear([Waits(2, "replace"), .. Ends(1, "cancelled", met: 2)]);
        Hear(Runs(2, "replace"));
        Expect(1);
    }

    [Fact]
    public void What_starts_before_it_was_compared_is_found()
    {
        Hear(Arrives(1, "waiting"));
        Hear(Runs(1, "waiting").Replace("priority[smallint]:2", "priority[smallint]:-2", StringComparison.Ordinal));
        Expect(1);
    }

    private static string Arrives(int job, string rule, string key = "7") =>
        $"table outbox.jobs: INSERT: {Row(job, rule, key)} priority[smallint]:-2 lease_token[uuid]:null cancel_requested_at[timestamp with time zone]:null";

    private static string Waits(int job, string rule, string key = "7") =>
        $"table outbox.jobs: UPDATE: {Row(job, rule, key)} priority[smallint]:2 lease_token[uuid]:null cancel_requested_at[timestamp with time zone]:null";

    private static string Runs(int job, string rule, string key = "7", bool isCancelled = false) =>
        $"table outbox.jobs: UPDATE: {Row(job, rule, key)} priority[smallint]:2 lease_token[uuid]:'{Id(job)}' "
        + $"cancel_requested_at[timestamp with time zone]:{(isCancelled ? "'2026-01-01 00:00:00+00'" : "null")}";

    private static string[] Ends(int job, string state, int? met = null) =>
    [
        $"table outbox.jobs: DELETE: id[uuid]:'{Id(job)}'",
        $"table outbox.job_history_20260101: INSERT: id[uuid]:'{Id(job)}' state[text]:'{state}' met_id[uuid]:{(met is { } id ? $"'{Id(id)}'" : "null")}",
    ];

    private static string Row(int job, string rule, string key) => $"id[uuid]:'{Id(job)}' kind[text]:'k' unique_key[text]:'{key}' unique_rule[jsonb]:'{{\"rule\": \"{rule}\"}}'";

    private static Guid Id(int number) => new($"00000000-0000-7000-8000-{number:000000000000}");

    private void Hear(params string[] lines) => checker.Heard(new($"{seconds}", DateTimeOffset.UnixEpoch.AddSeconds(seconds += 2), [.. lines.Select(Change.Parse)]));

    private void Expect(int times)
    {
        checker.Finish();
        Assert.Equal(Enumerable.Repeat(Promise.Unique, times), broken);
    }
}
