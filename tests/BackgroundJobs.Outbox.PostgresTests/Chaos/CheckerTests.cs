using System.Diagnostics;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.History;

namespace BackgroundJobs.Outbox.PostgresTests.Chaos;

// A checker that cannot fail shows nothing: here each promise is broken by a history made for it, and the whole one is found whole.
public sealed class CheckerTests : IDisposable
{
    private static readonly Guid Job = new("00000000-0000-7000-8000-000000000001");
    private static readonly Guid Operation = new("00000000-0000-4000-8000-000000000002");
    private static readonly Guid A = new("aaaaaaaa-0000-4000-8000-000000000000");
    private static readonly Guid B = new("bbbbbbbb-0000-4000-8000-000000000000");

    private readonly Checker checker = new();
    private readonly string workerLog = Path.GetTempFileName();
    private readonly string writerLog = Path.GetTempFileName();
    private int xid;

    public void Dispose()
    {
        File.Delete(workerLog);
        File.Delete(writerLog);
    }

    [Fact]
    public void A_history_in_which_all_is_well_breaks_nothing()
    {
        Enqueue();
        Claim(1, A);
        Release(1);
        Claim(2, B);
        Complete(2, effect: 2);
        Worker(Word.Started, 1);
        Worker(Word.Started, 2);
        Worker(Word.Called, 2);
        Worker(Word.Saved, 2);
        Writer(Word.Invoke, Word.Ok);
        Finish();
        Assert.Empty(checker.Violations);
    }

    [Fact]
    public void A_completion_without_the_call_before_it_is_found()
    {
        Enqueue();
        Claim(1, A);
        Complete(1, effect: 1);
        Broken(Promise.CalledFirst);
    }

    [Fact]
    public void A_handler_that_was_told_the_wrong_thing_is_found()
    {
        Enqueue();
        Claim(1, A);
        Worker(Word.Saved, 1);
        Broken(Promise.Honest);
    }

    [Fact]
    public void A_job_that_never_ends_is_lost()
    {
        Enqueue();
        Claim(1, A);
        Release(1);
        Broken(Promise.NoneLost);
    }

    [Fact]
    public void A_job_that_vanishes_without_a_history_is_lost()
    {
        Enqueue();
        Claim(1, A);
        Hear($"table outbox.jobs: DELETE: id[uuid]:'{Job}'");
        Broken(Promise.NoneLost);
    }

    [Fact]
    public void A_run_of_a_job_that_was_rolled_back_is_a_ghost()
    {
        Worker(Word.Started, 1);
        Broken(Promise.NoGhost);
    }

    [Fact]
    public void A_run_of_an_attempt_that_no_claim_gave_is_a_ghost()
    {
        Enqueue();
        Claim(1, A);
        Complete(1, effect: 1);
        Worker(Word.Started, 2);
        Broken(Promise.NoGhost);
    }

    [Fact]
    public void A_handler_that_does_not_find_its_row_is_said()
    {
        Enqueue();
        Claim(1, A);
        Complete(1, effect: 1);
        Worker(Word.Missing, 1);
        Broken(Promise.RowsFirst);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_entity_without_its_job_or_a_job_without_its_entity_is_not_atomic(bool entity)
    {
        Hear(entity ? Entity : Inserted());
        Finish();
        Assert.Equal(1, checker.Count(Promise.Atomic));
    }

    [Fact]
    public void An_operation_that_is_committed_twice_is_not_atomic()
    {
        Enqueue();
        Claim(1, A);
        Complete(1, effect: 1);
        var other = Guid.NewGuid();
        Hear(Entity.Replace($"{Job}", $"{other}", StringComparison.Ordinal), Inserted(other));
        Finish();
        Assert.Equal(1, checker.Count(Promise.Atomic));
    }

    [Fact]
    public void A_second_effect_and_an_effect_without_its_completion_are_found()
    {
        Enqueue();
        Claim(1, A);
        Hear(Effect(1));
        Complete(1, effect: 1);
        Finish();
        Assert.Equal(2, checker.Count(Promise.EffectOnce));
    }

    [Fact]
    public void An_effect_of_an_attempt_that_had_lost_its_lease_is_found()
    {
        Enqueue();
        Claim(1, A);
        Release(1);
        Claim(2, B);
        Complete(2, effect: 1);
        Broken(Promise.Fence);
    }

    [Fact]
    public void A_lease_that_is_overwritten_is_found()
    {
        Enqueue();
        Claim(1, A);
        Hear(Updated(1, B));
        Complete(1, effect: 1);
        Broken(Promise.Fence);
    }

    [Fact]
    public void A_completion_of_what_nobody_held_is_found()
    {
        Enqueue();
        Complete(0, effect: 0);
        Broken(Promise.Fence);
    }

    [Fact]
    public void A_completion_that_no_handler_returned_for_is_found()
    {
        Hear(Entity, Inserted(kind: PlainJob.Kind));
        Claim(1, A);
        Hear($"table outbox.jobs: DELETE: id[uuid]:'{Job}'", Remembered(1));
        Broken(Promise.Fence);
    }

    [Fact]
    public void An_attempt_that_is_skipped_and_a_change_after_the_end_are_not_legal()
    {
        Enqueue();
        Claim(2, A);
        Complete(2, effect: 2);
        Hear(Updated(3, B));
        Finish();
        Assert.Equal(2, checker.Count(Promise.Legal));
    }

    [Theory]
    [InlineData(Word.Ok, false)]
    [InlineData(Word.Duplicate, false)]
    [InlineData(Word.Fail, true)]
    public void A_writer_that_was_told_the_wrong_thing_is_found(string told, bool committed)
    {
        if (committed)
        {
            Enqueue();
            Claim(1, A);
            Complete(1, effect: 1);
        }

        Writer(Word.Invoke, told);
        Broken(Promise.Honest);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_writer_that_was_told_nothing_is_believed_either_way(bool committed)
    {
        if (committed)
        {
            Enqueue();
            Claim(1, A);
            Complete(1, effect: 1);
            Worker(Word.Called, 1);
        }

        Writer(Word.Invoke);
        var told = Finish();
        Assert.Empty(checker.Violations);
        Assert.Equal((committed ? 1 : 0, committed ? 0 : 1), (told.UnknownCommitted, told.UnknownRolledBack));
    }

    [Theory]
    [InlineData(1, "0 1 2 3.5")]
    [InlineData(0, "")]
    [InlineData(2, "0 1 1 2 4")]
    public void A_tick_that_is_left_out_or_taken_twice_is_found(int broken, string seconds)
    {
        foreach (var second in seconds.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            // The last one without its job.
            var id = Guid.NewGuid();
            string[] lines = [$"table outbox.schedule_ticks: INSERT: schedule[text]:'s' tick_at[timestamp with time zone]:'2026-01-01 00:00:0{second}+00' job_id[uuid]:'{id}'"];
            Hear(second == "3.5" ? lines : [.. lines, Inserted(id, PlainJob.Kind)]);
        }

        Finish();
        Assert.Equal(broken, checker.Count(Promise.Ticks));
    }

    [Theory]
    [InlineData(0, "success", "completed", false)]
    [InlineData(1, "success", "dead", false)]
    [InlineData(1, "success", null, false)]
    [InlineData(1, "failure", "completed", false)]
    [InlineData(0, "failure", "cancelled", false)]
    [InlineData(0, "always", "dead", false)]
    [InlineData(1, "always", null, false)]
    [InlineData(0, "success", "dead", true)]
    [InlineData(1, "success", "completed", true)]
    [InlineData(1, "success", null, true)]
    public void A_job_that_is_let_go_or_cancelled_against_its_edges_is_found(int broken, string edge, string? parent, bool isCancelled)
    {
        var child = Guid.NewGuid();
        Enqueue();
        Hear($"{Inserted(child, PlainJob.Kind)} priority[smallint]:-2 depends_on[jsonb]:'{{\"{Job}\": \"{edge}\"}}'");
        Claim(1, A);
        if (parent is not null)
            Hear($"table outbox.jobs: DELETE: id[uuid]:'{Job}'", Remembered(1).Replace("'completed'", $"'{parent}'", StringComparison.Ordinal));
        if (isCancelled)
            Hear($"table outbox.jobs: DELETE: id[uuid]:'{child}'", $"table outbox.job_history: INSERT: id[uuid]:'{child}' state[text]:'cancelled' attempt[integer]:0 errors[jsonb]:'[{{\"type\": \"parent\"}}]'");
        else
            Hear($"table outbox.jobs: UPDATE: id[uuid]:'{child}' lease_token[uuid]:null worker_id[uuid]:null attempt[integer]:0 priority[smallint]:2");
        Assert.Equal(broken, checker.Count(Promise.Graph));
    }

    [Fact]
    public void An_operators_cancel_of_a_job_that_a_parent_had_cancelled_before_is_none_for_a_parent()
    {
        var child = Guid.NewGuid();
        Enqueue();
        Hear($"{Inserted(child, PlainJob.Kind)} priority[smallint]:-2 depends_on[jsonb]:'{{\"{Job}\": \"success\"}}'");
        Hear(
            $"table outbox.jobs: DELETE: id[uuid]:'{child}'",
            $"table outbox.job_history: INSERT: id[uuid]:'{child}' state[text]:'cancelled' attempt[integer]:0 errors[jsonb]:'[{{\"type\": \"parent\"}}, {{\"type\": \"cancelled\"}}]'");
        Assert.Equal(0, checker.Count(Promise.Graph));
    }

    [Theory]
    [InlineData(0, "success", "completed", "completed", false)]
    [InlineData(1, "success", "completed", "dead", false)]
    [InlineData(1, "always", "completed", null, false)]
    [InlineData(0, "always", "completed", "dead", false)]
    [InlineData(0, "failure", "dead", null, false)]
    [InlineData(0, "success", "completed", "dead", true)]
    [InlineData(1, "success", "completed", null, true)]
    public void What_was_added_alongside_a_parent_counts_as_the_parent_does(int broken, string edge, string parent, string? added, bool isCancelled)
    {
        var (child, other) = (Guid.NewGuid(), Guid.NewGuid());
        Enqueue();
        Hear($"{Inserted(child, PlainJob.Kind)} priority[smallint]:-2 depends_on[jsonb]:'{{\"{Job}\": \"{edge}\"}}'");
        Claim(1, A);
        Hear(
            $"{Inserted(other, PlainJob.Kind)} priority[smallint]:2 depends_on[jsonb]:'{{\"{Job}\": \"alongside\"}}'",
            $"table outbox.jobs: DELETE: id[uuid]:'{Job}'",
            Remembered(1).Replace("'completed'", $"'{parent}'", StringComparison.Ordinal));
        if (added is not null)
            Hear($"table outbox.jobs: DELETE: id[uuid]:'{other}'", $"table outbox.job_history: INSERT: id[uuid]:'{other}' state[text]:'{added}' attempt[integer]:0 errors[jsonb]:null");
        if (isCancelled)
            Hear($"table outbox.jobs: DELETE: id[uuid]:'{child}'", $"table outbox.job_history: INSERT: id[uuid]:'{child}' state[text]:'cancelled' attempt[integer]:0 errors[jsonb]:'[{{\"type\": \"parent\"}}]'");
        else
            Hear($"table outbox.jobs: UPDATE: id[uuid]:'{child}' lease_token[uuid]:null worker_id[uuid]:null attempt[integer]:0 priority[smallint]:2");
        Assert.Equal(broken, checker.Count(Promise.Graph));
        Assert.Equal(1, checker.Alongside);
    }

    [Fact]
    public void How_long_a_dead_workers_job_lay_about_is_measured()
    {
        Hear($"table outbox.workers: INSERT: id[uuid]:'{A}' process_id[integer]:77");
        Enqueue();
        Claim(1, A);
        var died = Stopwatch.GetTimestamp();
        var longBefore = died - (60 * Stopwatch.Frequency);
        var rescue = $"table outbox.workers: UPDATE: id[uuid]:'{A}' process_id[integer]:77 dead_at[timestamp with time zone]:'2026-01-01 00:00:00+00'";
        checker.Heard(new("9", TimeProvider.System.GetUtcNow() + TimeSpan.FromSeconds(4), [Change.Parse(rescue), Change.Parse(Updated(1, null))]));
        var told = checker.Finish([workerLog], [writerLog], [(longBefore, 77), (died, 77)], []);
        Assert.InRange(told.WorstRescue.TotalSeconds, 3.9, 4.1);
        Assert.Equal(1, checker.Rescues);
    }

    [Fact]
    public void A_line_of_the_log_is_read_with_everything_that_can_stand_in_it()
    {
        var change = Change.Parse("table public.\"odd\": UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 kinds[text[]]:'{a,b}' at[timestamp with time zone]:null text[text]:'it''s '': [x]' flag[boolean]:true");
        Assert.Equal(("public.\"odd\"", ChangeKind.Update), (change.Table, change.Kind));
        Assert.Equal(
            ["id=2", "kinds={a,b}", "at=", "text=it's ': [x]", "flag=true"],
            change.Values.Select(each => $"{each.Key}={each.Value}"));
        Assert.Empty(Change.Parse("table outbox.job_history_20261125: DELETE: (no-tuple-data)").Values);
        Assert.Throws<FormatException>(() => Change.Parse("BEGIN 1"));
    }

    private static string Entity => $"table public.entities: INSERT: id[bigint]:1 operation[uuid]:'{Operation}' job_id[uuid]:'{Job}'";

    private static string Inserted(Guid? id = null, string? kind = null) =>
        $"table outbox.jobs: INSERT: id[uuid]:'{id ?? Job}' kind[text]:'{kind ?? EffectJob.Kind}' attempt[integer]:0 lease_token[uuid]:null worker_id[uuid]:null";

    private static string Updated(int attempt, Guid? worker) =>
        $"table outbox.jobs: UPDATE: id[uuid]:'{Job}' kind[text]:'{EffectJob.Kind}' attempt[integer]:{attempt} "
        + (worker is null ? "lease_token[uuid]:null worker_id[uuid]:null" : $"lease_token[uuid]:'{worker}' worker_id[uuid]:'{worker}'");

    private static string Effect(int attempt) => $"table public.effects: INSERT: id[bigint]:1 job_id[uuid]:'{Job}' attempt[integer]:{attempt}";

    private static string Remembered(int attempt) => $"table outbox.job_history_20261125: INSERT: id[uuid]:'{Job}' attempt[integer]:{attempt} state[text]:'completed'";

    private void Enqueue() => Hear(Entity, Inserted());

    private void Claim(int attempt, Guid worker) => Hear(Updated(attempt, worker));

    private void Release(int attempt) => Hear(Updated(attempt, null));

    private void Complete(int attempt, int effect) => Hear($"table outbox.jobs: DELETE: id[uuid]:'{Job}'", Remembered(attempt), Effect(effect));

    private void Hear(params string[] lines) =>
        checker.Heard(new($"{++xid}", TimeProvider.System.GetUtcNow(), [.. lines.Select(Change.Parse)]));

    private void Worker(string word, int attempt)
    {
        using var log = new ActorLog(workerLog);
        log.Write(word, Job, attempt);
    }

    private void Writer(params string[] words)
    {
        using var log = new ActorLog(writerLog);
        foreach (var word in words)
            log.Write(word, Operation);
    }

    private ActorsTold Finish() => checker.Finish([workerLog], [writerLog], [], []);

    private void Broken(string promise)
    {
        Finish();
        Assert.True(checker.Count(promise) > 0, $"Not found; found: {string.Join("; ", checker.Violations.Keys)}");
    }
}
