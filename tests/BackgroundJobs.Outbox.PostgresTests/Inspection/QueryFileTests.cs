using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Inspection;

// Every file of queries/ against 200,000 jobs and 200,000 finished ones, as a person runs it. JobInspectorTests runs them from C#.
[Collection(nameof(SeededDatabase))]
public sealed class QueryFileTests(SeededDatabase seeded)
{
    // Pages of 8 KiB that a query may touch, each visit counted: what it costs, on any machine.
    private static readonly Dictionary<string, int> PagesAllowed = new()
    {
        ["blocked_groups"] = 60_000,
        ["dead_jobs"] = 150,
        ["failing_kinds"] = 60_000,
        ["job_story"] = 100,
        ["jobs_by_state"] = 200_000,
        ["limits"] = 60_000,
        ["oldest_waiting"] = 1_500,
        ["operations"] = 300,
        ["paused_kinds"] = 20,
        ["queues"] = 2_000,
        ["retrying_jobs"] = 60_000,
        ["running_jobs"] = 150_000,
        ["schedules"] = 40_000,
        ["table_health"] = 1_000,
        ["throughput_per_minute"] = 6_000,
        ["unique_jobs"] = 150,
        ["why"] = 5_000,
        ["workers"] = 20,
        ["workflow"] = 10_000,
        ["workflow_jobs"] = 60_000,
        ["workflows"] = 10_000,
    };

    public static TheoryData<string> Files => [.. Directory.GetFiles(Repository.PathOf("queries"), "*.sql").Select(file => Path.GetFileNameWithoutExtension(file)!).Order()];

    [Theory]
    [MemberData(nameof(Files))]
    public async Task It_runs_as_is_in_psql_well_inside_its_own_timeout(string name)
    {
        // Half of what the file gives itself, beside all the other tests.
        var file = await File.ReadAllTextAsync(Repository.PathOf("queries", name + ".sql"));
        Assert.Contains("SET LOCAL statement_timeout = '5s';", file, StringComparison.Ordinal);
        var hurried = Path.GetTempFileName();
        await File.WriteAllTextAsync(hurried, file.Replace("statement_timeout = '5s'", "statement_timeout = '2500ms'", StringComparison.Ordinal));
        await seeded.Database.PsqlAsync("-f", hurried);
        File.Delete(hurried);

        var output = await seeded.Database.PsqlAsync("-q", "-A", "-t", "-f", Repository.PathOf("queries", name + ".sql"));
        Assert.NotEmpty(output.Trim());
    }

    [Theory]
    [MemberData(nameof(Files))]
    public async Task It_says_what_it_shows_reads_only_and_is_bounded(string name)
    {
        var file = await File.ReadAllTextAsync(Repository.PathOf("queries", name + ".sql"));
        Assert.StartsWith("-- ", file, StringComparison.Ordinal);
        Assert.Contains("Bounded:", file, StringComparison.Ordinal);
        Assert.Contains("\nBEGIN TRANSACTION READ ONLY;\n", file, StringComparison.Ordinal);
        Assert.Matches(@"\nLIMIT [0-9]+;\n\nCOMMIT;\n\z", file);
        Assert.DoesNotContain('\\', file);
    }

    [Theory]
    [MemberData(nameof(Files))]
    public async Task It_touches_few_pages(string name)
    {
        var plan = await Plan.OfAsync(seeded.Database.Inspector, $"queries/{name}.sql");
        TestContext.Current.TestOutputHelper?.WriteLine($"{name}: {plan.Buffers} pages");
        Assert.InRange(plan.Buffers, 0, PagesAllowed[name]);
        plan.MustNotScan("jobs");
        plan.MustNotScan("job_history");
    }

    [Fact]
    public async Task A_person_chooses_the_job_of_the_story_with_a_setting()
    {
        var id = await seeded.Database.ScalarAsync<Guid>("SELECT id FROM outbox.job_history WHERE state = 'dead' ORDER BY id LIMIT 1");
        var story = await seeded.Database.PsqlAsync(
            "-q", "-A", "-t", "-c", $"SET outbox_query.job_id = '{id}'", "-f", Repository.PathOf("queries", "job_story.sql"));
        Assert.All(story.Trim().Split('\n'), line => Assert.StartsWith($"{id}|", line, StringComparison.Ordinal));
        Assert.Contains("|attempt 1|System.Exception: broken", story, StringComparison.Ordinal);
        Assert.Contains("|dead|1 attempts, 1 failures of 20, 0 crashes", story, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_query_stopped_by_its_own_timeout_says_where_to_look()
    {
        // Another session's lock is the surest way to be slow; the files give up on it after a second.
        await using var other = await seeded.Database.Admin.OpenConnectionAsync();
        await using var transaction = await other.BeginTransactionAsync();
        await using var hold = new Npgsql.NpgsqlCommand("LOCK TABLE outbox.workers IN ACCESS EXCLUSIVE MODE", other, transaction);
        await hold.ExecuteNonQueryAsync();
        var error = await Assert.ThrowsAsync<OutboxException>(() => new JobInspector(seeded.Database.Inspector).WorkersAsync());
        Assert.Contains("queries/workers.sql was stopped by its own timeout", error.Message, StringComparison.Ordinal);
        Assert.Contains("table_health.sql", error.Message, StringComparison.Ordinal);
    }
}
