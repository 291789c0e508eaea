namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// Whether the interleavings would notice: each of these breaks one statement, and some order of two or three must fail.
public sealed class MutantTests(InterleavingTests.Stage stage, ITestOutputHelper output) : IClassFixture<InterleavingTests.Stage>
{
    private static readonly (Mutant Mutant, Actor[] Actors)[] Mutants =
    [
        (new("a record without its lease token", "finish_jobs", ("AND ((id, lease_token) IN (SELECT ended.id, ended.lease_token FROM ended)) IS TRUE", "")),
            [Actors.Rescue, Actors.FinishA, Actors.ClaimB]),
        (new("a retry without its lease token", "reschedule_jobs", ("AND job.lease_token = ended.lease_token", "")), [Actors.Rescue, Actors.FailA, Actors.ClaimB]),
        (new("a claim that does not lock its worker", "claim_jobs", ("FOR KEY SHARE", "")), [Actors.Rescue, Actors.ClaimA]),
        (new("a claim of what is to be cancelled", "claim_jobs", ("AND cancel_requested_at IS NULL", "")), [Actors.Cancel, Actors.FailA, Actors.ClaimB]),
        (new("a rescue of workers that live", "mark_dead_workers", ("AND heartbeat_at NOT BETWEEN clock_timestamp() - lease AND clock_timestamp()", "")), [Actors.Rescue, Actors.ClaimB]),
        (new("a rescue that locks no worker", "mark_dead_workers", ("FOR UPDATE SKIP LOCKED", "")), [Actors.Rescue, Actors.ClaimA]),
        (new("a claim given up that gives back what is known", "release_claims", ("AND known.lease_token = job.lease_token", "AND false")), [Actors.GiveUpClaimA, Actors.ClaimA]),
        (new("a rescue that forgets a worker whose job it passed over", "forget_dead_workers", ("WHERE job.worker_id = worker.id", "WHERE false")),
            [Actors.Rescue, Actors.CompleteRolledBackA]),
        (new("a rescue that charges nobody", "rescue_jobs", ("SET crashes = charged.crashes", "SET crashes = job.crashes")), [Actors.Rescue, Actors.ClaimB]),
        (new("a cancel of what is being claimed", "cancel_waiting_jobs", ("AND job.lease_token IS NULL", ""), ("FOR UPDATE SKIP LOCKED", "")), [Actors.Cancel, Actors.ClaimB]),
        (new("a request to cancel that passes over what is being claimed", "request_cancel", ("WHERE ($1::text IS NOT NULL OR lease_token IS NULL)", "WHERE false")), [Actors.Cancel, Actors.ClaimB, Actors.FailA]),
        (new("an end of cancelled jobs that run", "finish_cancelled_jobs", ("AND lease_token IS NULL", "")), [Actors.Cancel, Actors.FinishCancelled, Actors.FinishA]),
        (new("a retry that leaves the finished job where it is", "retry_finished_jobs",
            ("DELETE FROM outbox.job_history AS old\n    USING given_up", "UPDATE outbox.job_history AS old\n    SET state = old.state\n    FROM given_up")), [Actors.Retry]),
        (new("a step of whoever had the job once", "save_step", ("CALL outbox.save_step($1, $2, $3, $4::jsonb)", "UPDATE outbox.jobs SET steps = $4::jsonb WHERE id = $1 AND $2::uuid IS NOT NULL AND $3::text IS NOT NULL")),
            [Actors.Rescue, Actors.KeepStepA, Actors.ClaimB]),
        (new("a tick of whatever version", "enqueue_ticks", ("AND schedules.last_at IS NOT DISTINCT FROM seen.seen_at", ""), ("ON CONFLICT (schedule, tick_at) DO NOTHING", "")),
            [Actors.TickA, Actors.TickB]),
        (new("a tick that enqueues whether or not it is new", "enqueue_ticks", ("AND schedules.last_at IS NOT DISTINCT FROM seen.seen_at", ""), ("JOIN asked ON asked.id = new_ticks.job_id", "RIGHT JOIN asked ON asked.id = new_ticks.job_id"),
            ("JOIN due ON due.name = new_ticks.schedule", "JOIN due ON due.name = asked.schedule"), ("        new_ticks.job_id,\n        due.kind", "        asked.id,\n        due.kind"), ("new_ticks.tick_at AT", "asked.tick_at AT")),
            [Actors.TickA, Actors.TickB]),
        (new("a change of a schedule that a tick writes over", "enqueue_ticks", ("SET last_at = due.moved_to,", "SET every = interval '1 hour',\n        last_at = due.moved_to,"), ("WHERE schedules.version = seen.version\n      AND schedules.changed_at = seen.changed_at\n      AND", "WHERE")),
            [Actors.ChangeSchedule, Actors.TickA]),
    ];

    public static TheoryData<int> Numbers => [.. Enumerable.Range(0, Mutants.Length)];

    [Theory]
    [MemberData(nameof(Numbers))]
    public async Task A_broken_statement_fails_in_some_order(int number)
    {
        var (mutant, actors) = Mutants[number];
        await using var interleaving = await Interleaving.OfAsync(stage.Database, actors, mutant);
        var error = await Record.ExceptionAsync(interleaving.AllAsync);
        Assert.True(error is not null, $"Nobody noticed {mutant}.");
        output.WriteLine($"{mutant}: {error.Message}");
    }
}
