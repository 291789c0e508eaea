using BackgroundJobs.Outbox.PostgresTests.Inspection;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Sql;

// What an operator does to one job must cost a handful of pages, however many jobs there are.
[Collection(nameof(SeededDatabase))]
public sealed class AdminPlanTests(SeededDatabase seeded)
{
    private static readonly string[] AllStates = ["scheduled", "waiting", "retrying", "running", "completed", "cancelled", "dead"];

    [Theory]
    [InlineData("retry_finished_jobs", "job_history", "state = 'dead'")]
    [InlineData("delete_finished_jobs", "job_history", "state = 'completed'")]
    [InlineData("retry_waiting_jobs", "jobs", "failures > 0")]
    [InlineData("cancel_waiting_jobs", "jobs", "run_at > now()")]
    [InlineData("delete_waiting_jobs", "jobs", "run_at > now()")]
    [InlineData("request_cancel", "jobs", "lease_token IS NOT NULL")]
    public async Task One_job_is_found_by_the_index_on_ids(string statement, string table, string which)
    {
        var id = await seeded.Database.ScalarAsync<Guid>($"SELECT id FROM outbox.{table} WHERE {which} LIMIT 1");
        var plan = await PlanAsync(statement, ("ids", new[] { id }));
        TestContext.Current.TestOutputHelper?.WriteLine($"{statement}: {plan.Buffers} pages");
        plan.MustNotScan("jobs");
        plan.MustNotScan("job_history");
        if (table == "jobs")
            plan.MustUse("jobs_pkey");
        else
            plan.MustUseIndexOn("job_history_2", "_id_idx");
        Assert.InRange(plan.Buffers, 1, 150);
        Assert.Contains(plan.Nodes, node => node.GetProperty("Node Type").GetString() == "ModifyTable" && Rows(node) == 1);
    }

    [Theory]
    [InlineData("retry_finished_jobs", "kind_0")]
    [InlineData("cancel_waiting_jobs", "kind_3")]
    public async Task A_batch_of_a_thousand_touches_a_bounded_number_of_pages(string statement, string kind)
    {
        var plan = await PlanAsync(statement, ("kind", kind));
        TestContext.Current.TestOutputHelper?.WriteLine($"{statement}: {plan.Buffers} pages");
        Assert.InRange(plan.Buffers, 1000, 120_000);
        Assert.Contains(plan.Nodes, node => node.GetProperty("Node Type").GetString() == "ModifyTable" && Rows(node) == 1000);
    }

    [Fact]
    public async Task The_oldest_job_of_each_queue_is_found_by_a_few_pages()
    {
        var plan = await Plan.OfAsync(seeded.Database.Operator, "sql/list_first_jobs.sql", ("queue", ""));
        plan.MustNotScan("jobs");
        plan.MustUse("jobs_ready");
        Assert.InRange(plan.Buffers, 1, 1000);
    }

    private Task<Plan> PlanAsync(string statement, params (string Name, object? Value)[] chosen)
    {
        (string Name, object? Value)[] nothing =
        [
            ("states", AllStates), ("ids", null), ("queue", null), ("kind", null), ("workflow", null), ("group", null), ("created_after", null), ("created_before", null), ("finished_after", null),
            ("finished_before", null), ("error_contains", null), ("after", Guid.Empty), ("limit", 1000L), ("reason", "a test"), ("patience", "500ms"),
        ];
        return Plan.OfAsync(
            seeded.Database.Operator,
            $"sql/{statement}.sql",
            [.. nothing.Where(each => chosen.All(other => other.Name != each.Name)), .. chosen]);
    }

    private static double Rows(System.Text.Json.JsonElement node) => node.GetProperty("Actual Rows").GetDouble() * node.GetProperty("Actual Loops").GetDouble();
}
