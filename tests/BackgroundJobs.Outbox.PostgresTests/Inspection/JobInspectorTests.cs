using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Inspection;

[Collection(nameof(SeededDatabase))]
public sealed class JobInspectorTests(SeededDatabase seeded)
{
    private readonly JobInspector inspector = new(seeded.Database.Inspector);

    // Arguments are not for everybody who may look.
    private readonly JobInspector inspectorOfArguments = new(seeded.Database.Operator);

    [Fact]
    public async Task Counts_are_what_was_seeded_up_to_their_bound()
    {
        var counts = await inspector.CountsAsync();
        long Of(JobState state) => counts.Where(count => count.State == state).Sum(count => count.Jobs);

        Assert.Equal(500, Of(JobState.Running));
        Assert.Equal(10_000, Of(JobState.Retrying));
        // Those that came due while the test ran moved from scheduled to waiting.
        Assert.Equal(200_000 - 500 - 10_000 + 150, Of(JobState.Waiting) + Of(JobState.Scheduled));
        Assert.InRange(Of(JobState.Scheduled), 36_000, 40_000);
        Assert.All(counts.Where(count => count.State is not (JobState.Dead or JobState.Cancelled or JobState.Blocked)), count => Assert.False(count.AtLeast));

        // Of the newest 10,000 jobs of workflows each two-hundredth waits for nobody.
        Assert.Equal(new JobCount { Queue = "q0", State = JobState.Blocked, Jobs = 9_950, AtLeast = true }, Assert.Single(counts, count => count.State == JobState.Blocked));

        // 14,000 gave up; the newest 10,000 are counted, and it says so.
        Assert.Equal(10_000, Of(JobState.Dead) + Of(JobState.Cancelled));
        Assert.All(counts.Where(count => count.State is JobState.Dead or JobState.Cancelled), count => Assert.True(count.AtLeast));
    }

    [Fact]
    public async Task The_oldest_waiting_job_of_each_queue_and_priority_is_no_running_one()
    {
        var oldest = await inspector.OldestWaitingAsync();
        Assert.Equal(20, oldest.Count);
        Assert.True(oldest.Zip(oldest.Skip(1)).All(pair => pair.First.RunAt <= pair.Second.RunAt));
        Assert.Equal(
            await seeded.Database.ScalarAsync<Guid>("SELECT id FROM outbox.jobs WHERE lease_token IS NULL ORDER BY run_at LIMIT 1"), oldest[0].Id);
        Assert.All(oldest, job => Assert.Equal(job is { Queue: "q1" } or { Kind: "kind_3" } or { Queue: "q2", Kind: "kind_4" }, job.Paused));
        Assert.All(oldest, job => Assert.InRange(job.WaitingFor, TimeSpan.FromHours(4), TimeSpan.FromHours(5)));
    }

    [Fact]
    public async Task Running_jobs_say_who_since_when_and_what_is_left_of_the_lease()
    {
        var running = await inspector.RunningAsync();
        Assert.Equal(200, running.Count);
        Assert.True(running[0].RunningFor >= TimeSpan.FromSeconds(500));
        Assert.All(running, job =>
        {
            Assert.StartsWith("worker-", job.Worker, StringComparison.Ordinal);
            Assert.Equal("host", job.Host);
            Assert.True(job.LeaseLeft <= TimeSpan.FromSeconds(10));
            Assert.Null(job.CancelRequestedAt);
        });
    }

    [Fact]
    public async Task What_gave_up_comes_newest_first_with_its_last_error()
    {
        var dead = await inspector.DeadAsync();
        Assert.Equal(100, dead.Count);
        Assert.Equal(JobState.Dead, dead[0].State);
        Assert.Equal("System.Exception", dead[0].ErrorType);
        Assert.StartsWith("broken ", dead[0].ErrorMessage, StringComparison.Ordinal);
        Assert.Contains(dead, job => job.State == JobState.Cancelled);
        Assert.Equal(dead.OrderByDescending(job => job.FinishedAt).Select(job => job.Id), dead.Select(job => job.Id));
    }

    [Fact]
    public async Task Retrying_jobs_come_soonest_first()
    {
        var retrying = await inspector.RetryingAsync();
        Assert.Equal(100, retrying.Count);
        Assert.Equal(
            await seeded.Database.ScalarAsync<Guid>("SELECT id FROM outbox.jobs WHERE failures > 0 ORDER BY run_at LIMIT 1"), retrying[0].Id);
        Assert.All(retrying, job => Assert.Equal("System.TimeoutException", job.ErrorType));
        Assert.All(retrying, job => Assert.True(job.DueIn > TimeSpan.Zero));
    }

    [Fact]
    public async Task The_kind_that_fails_most_comes_first()
    {
        var kinds = await inspector.FailingKindsAsync();
        Assert.Equal(20, kinds.Count);
        // Of the newest 10,000 that gave up, 5 of 7 died, all of this kind.
        Assert.Equal("kind_0", kinds[0].Kind);
        Assert.InRange(kinds[0].Dead, 7_000, 7_200);
        Assert.All(kinds, kind => Assert.Equal(500, kind.Retrying));
        Assert.All(kinds, kind => Assert.NotNull(kind.ErrorMessage));
        Assert.All(kinds, kind => Assert.NotNull(kind.LastFailedAt));
    }

    [Fact]
    public async Task Throughput_of_a_whole_minute_is_what_was_seeded()
    {
        var minutes = await inspector.ThroughputAsync();
        Assert.Equal(15, minutes.Count);
        // 100 a second, of which 5 in 100 died and 2 in 100 were cancelled.
        var whole = minutes[5];
        Assert.Equal((5_580, 300, 120, false), (whole.Completed, whole.Dead, whole.Cancelled, whole.AtLeast));
        Assert.Equal(DateTimeKind.Utc, whole.Minute.Kind);
    }

    [Fact]
    public async Task Throughput_beyond_the_bound_is_exact_for_the_newest_minutes_and_says_at_least_for_the_others()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        // A minute may begin between this and the look: what was seeded is told from what passed since by the minute it was seeded in.
        var seededAt = await database.ScalarAsync<DateTime>("""
            WITH seeded AS (
                INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, args)
                SELECT gen_random_uuid(), date_trunc('minute', now()) - interval '14 minutes' + n * interval '5 ms', now(), now(), 1, 2, 20, 0, 0, 'completed', 'q', 'k', '{"n": 1}'
                FROM generate_series(0, 167999) AS n)
            SELECT date_trunc('minute', now())
            """);
        var minutes = (await new JobInspector(database.Inspector).ThroughputAsync()).Where(minute => minute.Minute < seededAt).ToList();

        // Two hundred a second. Which minutes are covered depends on the size of a row; if midnight has just passed, on the day too.
        Assert.Equal((12_000, false), (minutes[0].Completed, minutes[0].AtLeast));
        Assert.True(minutes[^1].AtLeast);
        Assert.All(minutes, minute => Assert.True(minute.AtLeast || minute.Completed == 12_000));
    }

    [Fact]
    public async Task Table_health_names_who_holds_back_vacuum()
    {
        await using var other = await seeded.Database.Admin.OpenConnectionAsync();
        await using var transaction = await other.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await using (var look = new NpgsqlCommand("SELECT 'the holder' FROM outbox.jobs LIMIT 1", other, transaction))
            await look.ExecuteNonQueryAsync();

        // A role that may not see other sessions is told so, in the holder's place.
        Assert.All(await inspector.TableHealthAsync(), table => Assert.Contains("GRANT pg_read_all_stats TO outbox_test_inspector", table.Holder, StringComparison.Ordinal));

        var tables = await new JobInspector(seeded.Database.Admin).TableHealthAsync();
        var jobs = Assert.Single(tables, table => table.TableName == "jobs");
        Assert.InRange(jobs.LiveRows, 220_000, 240_000);
        Assert.True(jobs.TableBytes > 10_000_000 && jobs.IndexBytes > 1_000_000);
        Assert.NotNull(jobs.LastVacuum);
        Assert.True(jobs.FrozenAge >= 0);
        // Other tests share the server: their sessions may be older than ours.
        Assert.All(tables, table => Assert.NotNull(table.Holder));
        Assert.All(tables, table => Assert.True(table.HeldXids >= 0));
    }

    [Fact]
    public async Task Workers_and_queues_are_listed()
    {
        var workers = await inspector.WorkersAsync();
        Assert.Equal(["worker-1", "worker-2", "worker-3", "worker-4"], workers.Select(worker => worker.Name).Order());
        Assert.All(workers, worker => Assert.Equal(["kind_1"], worker.Kinds));

        var queues = await inspector.QueuesAsync();
        Assert.Equal(["idle", "q0", "q1", "q2", "q3", "q4"], queues.Select(queue => queue.Queue));
        Assert.Equal(("ops", "a fire"), (queues[2].PausedBy, queues[2].PauseReason));
        Assert.Null(queues[0].WaitingFor);
        Assert.Null(queues[0].NextDueAt);
        Assert.NotNull(queues[1].WaitingFor);
        Assert.NotNull(queues[1].NextDueAt);
    }

    [Theory]
    [InlineData("lease_token IS NOT NULL", JobState.Running, "enqueued claimed running")]
    [InlineData("failures > 0", JobState.Retrying, "enqueued attempt retrying")]
    public async Task An_unfinished_jobs_row_and_story(string which, JobState state, string events)
    {
        var id = await seeded.Database.ScalarAsync<Guid>($"SELECT id FROM outbox.jobs WHERE {which} ORDER BY run_at DESC LIMIT 1");
        var job = await inspectorOfArguments.FindAsync(id);
        Assert.Equal((id, state), (job!.Id, job.State));
        Assert.StartsWith("{\"n\": ", job.Args, StringComparison.Ordinal);

        var story = await inspector.StoryAsync(id);
        Assert.All(story, each => Assert.Equal(id, each.JobId));
        Assert.Equal(events.Split(' ').Order(), story.Select(each => each.Event.Split(' ')[0]).Order());
        Assert.Equal("enqueued", story[0].Event);
    }

    [Fact]
    public async Task A_finished_jobs_row_and_story()
    {
        var id = await seeded.Database.ScalarAsync<Guid>("SELECT id FROM outbox.job_history WHERE state = 'dead' LIMIT 1");
        var job = await inspectorOfArguments.FindAsync(id);
        Assert.Equal(JobState.Dead, job!.State);
        Assert.NotNull(job.FinishedAt);
        Assert.Contains("broken", job.Errors, StringComparison.Ordinal);
        Assert.Equal(["enqueued", "claimed", "attempt 1", "dead"], (await inspector.StoryAsync(id)).OrderBy(each => each.Event != "enqueued").ThenBy(each => each.Event switch { "claimed" => 1, "attempt 1" => 2, _ => 3 }).Select(each => each.Event));
    }

    [Fact]
    public async Task Workflows_are_listed_and_one_is_counted_whole()
    {
        var rows = await inspector.WorkflowsAsync();
        Assert.Equal(100, rows.Count);
        var newest = Guid.Parse("20000000-0000-7000-8000-000000000149");
        Assert.Equal((newest, 199, 1, 0, false), (rows[0].WorkflowId, rows[0].Blocked, rows[0].Waiting, rows[0].Running, rows[0].AtLeast));
        Assert.Equal(new WorkflowProgress { WorkflowId = newest, Total = 200, Blocked = 199, Waiting = 1, Running = 0, Completed = 0, Cancelled = 0, Dead = 0 }, await inspector.WorkflowAsync(newest));
        Assert.Null(await inspector.WorkflowAsync(Guid.NewGuid()));
        var jobs = await inspector.WorkflowJobsAsync(newest);
        Assert.Equal(200, jobs.Count);
        Assert.Equal((JobState.Waiting, null, 0), (jobs[0].State, jobs[0].DependsOn, jobs[0].WaitsFor));
        Assert.Equal((JobState.Blocked, $$"""{"{{jobs[6].JobId}}": "success"}""", 1), (jobs[7].State, jobs[7].DependsOn, jobs[7].WaitsFor));
        Assert.Empty(await inspector.WorkflowJobsAsync(Guid.NewGuid()));
    }

    [Fact]
    public async Task Of_no_job_there_is_no_row_and_no_story()
    {
        Assert.Null(await inspectorOfArguments.FindAsync(Guid.NewGuid()));
        Assert.Empty(await inspector.StoryAsync(Guid.NewGuid()));
    }

    // A column without a property would be dropped without a word, and a property without a column stay empty for ever.
    [Theory]
    [InlineData("queries/jobs_by_state.sql", typeof(JobCount))]
    [InlineData("queries/oldest_waiting.sql", typeof(OldestJob))]
    [InlineData("queries/running_jobs.sql", typeof(RunningJob))]
    [InlineData("queries/dead_jobs.sql", typeof(GaveUpJob))]
    [InlineData("queries/retrying_jobs.sql", typeof(RetryingJob))]
    [InlineData("queries/failing_kinds.sql", typeof(FailingKind))]
    [InlineData("queries/throughput_per_minute.sql", typeof(MinuteThroughput))]
    [InlineData("queries/table_health.sql", typeof(TableHealth))]
    [InlineData("queries/workers.sql", typeof(WorkerRow))]
    [InlineData("queries/queues.sql", typeof(QueueRow))]
    [InlineData("queries/operations.sql", typeof(OperationRow))]
    [InlineData("queries/schedules.sql", typeof(ScheduleRow))]
    [InlineData("queries/job_story.sql", typeof(JobEvent))]
    [InlineData("queries/why.sql", typeof(JobExplanation))]
    [InlineData("queries/workflows.sql", typeof(WorkflowRow))]
    [InlineData("queries/workflow.sql", typeof(WorkflowProgress))]
    [InlineData("queries/workflow_jobs.sql", typeof(WorkflowJobRow))]
    [InlineData("sql/find_job.sql", typeof(JobRow))]
    public async Task Each_column_has_its_property_and_each_property_its_column(string file, Type row)
    {
        await using var command = seeded.Database.Operator.CreateCommand(SqlFile.Read(typeof(JobInspector).Assembly, file, "outbox").Named.Replace("@id", "NULL::uuid", StringComparison.Ordinal));
        await using var reader = await command.ExecuteReaderAsync();
        var columns = Enumerable.Range(0, reader.FieldCount).Select(at => reader.GetName(at).Replace("_", "", StringComparison.Ordinal));
        Assert.Equal(row.GetProperties().Select(property => property.Name.ToLowerInvariant()).Order(), columns.Order());
    }
}
