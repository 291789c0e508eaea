using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Samples;

// The sample as a user runs it.
public sealed class InvoicesTests
{
    private static readonly SampleProcess Sample = new("InvoicesProgram", TimeSpan.FromMinutes(2));

    [Fact]
    public async Task The_sample_tells_its_story_and_the_database_says_the_same()
    {
        await using var database = await ScratchDatabase.EmptyAsync();

        var (exitCode, output) = await Sample.RunAsync("--connection", database.ConnectionString);

        Assert.True(exitCode == 0, output);
        List<string> lines = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        Assert.StartsWith("schedule monthly-invoices: at 2:00 of the first of each month, Europe/Berlin; next 20", lines[0], StringComparison.Ordinal);
        Assert.Equal("schedule run now", lines[1]);
        Assert.Single(lines, line => line.StartsWith("start ", StringComparison.Ordinal) && line.EndsWith("12 customers, a workflow of 37 jobs", StringComparison.Ordinal));
        Assert.Equal(12, lines.Count(line => line.StartsWith("render ", StringComparison.Ordinal)));
        Assert.Equal(12, lines.Count(line => line.StartsWith("mail ", StringComparison.Ordinal) && line.EndsWith(": sent", StringComparison.Ordinal)));
        Assert.EndsWith("12 of 12 mails sent, 2430.00 in all", lines[^2], StringComparison.Ordinal);
        Assert.Equal("end      37 of 37 jobs of the workflow completed", lines[^1]);

        // Of eight mails the provider takes three, three and two; the others did not wait for it.
        Assert.Equal(2, lines.Count(line => line.Contains("429", StringComparison.Ordinal)));
        Assert.True(lines.FindLastIndex(line => line.EndsWith("quick.example: sent", StringComparison.Ordinal)) < lines.FindLastIndex(line => line.Contains("429", StringComparison.Ordinal)), output);

        Assert.Equal(
            ["collect_orders 12", "mail_invoice 12", "render_invoice 12", "report_invoices 1", "start_invoices 1"],
            await database.TextsAsync("SELECT kind || ' ' || count(*) FROM outbox.job_history WHERE state = 'completed' AND failures = 0 GROUP BY kind ORDER BY kind"));
        Assert.Equal("12|12|2430", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(mailed_at), sum(amount)) FROM invoices"));
        Assert.Equal(
            ["busy.example 8", "quick.example 2", "small.example 2"],
            await database.TextsAsync("SELECT job_group || ' ' || count(*) FROM outbox.job_history WHERE queue = 'mail' GROUP BY job_group ORDER BY job_group"));
        Assert.Equal("monthly-invoices|Europe/Berlin", await database.ScalarAsync<string>("SELECT concat_ws('|', name, time_zone) FROM outbox.schedules"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT (SELECT count(*) FROM outbox.jobs) + (SELECT count(*) FROM outbox.workers)"));
    }

    [Fact]
    public async Task A_wrong_server_or_argument_ends_it_with_a_message_and_not_with_a_stack()
    {
        foreach (var arguments in new[] { new[] { "--connection", "Host=127.0.0.1;Port=1;Username=nobody;Timeout=2" }, ["--help"] })
        {
            var (exitCode, output) = await Sample.RunAsync(arguments);
            Assert.Equal(2, exitCode);
            Assert.NotEmpty(output);
            Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
        }
    }
}
