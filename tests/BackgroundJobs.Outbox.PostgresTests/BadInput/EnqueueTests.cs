using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using CsCheck;

namespace BackgroundJobs.Outbox.PostgresTests.BadInput;

// Calls from C#: each is refused by our own exception, before any statement, or stored as it was given and handed to its handler so.
public sealed class EnqueueTests(ITestOutputHelper output)
{
    private const int Jobs = 3000;
    private const int Filters = 500;
    private const int Failures = 200;

    private static readonly Gen<EnqueueOptions> Options = Gen.Select(
        Gen.Select(Corpus.Mostly("default", Corpus.Texts), Corpus.Mostly(2, Corpus.Numbers), Corpus.Mostly(3, Corpus.Numbers)),
        Gen.Select(
            Corpus.Mostly(0L, Gen.OneOf(-1, 1, long.MaxValue, long.MinValue, TimeSpan.TicksPerDay)),
            Corpus.Mostly(null, Gen.DateTimeOffset.Select(at => (DateTimeOffset?)at)),
            Gen.Dictionary(Corpus.Mostly("a", Corpus.Texts), Corpus.Mostly("b", Corpus.Texts))[0, 3]),
        (what, when) => new EnqueueOptions
        {
            Queue = what.Item1,
            Priority = what.Item2,
            MaxAttempts = what.Item3,
            Delay = when.Item2 is null ? TimeSpan.FromTicks(when.Item1) : null,
            RunAt = when.Item2,
            Headers = when.Item3,
        });

    private static readonly Gen<CorpusJob> Args = Gen.Select(Gen.Int, Corpus.Texts, Gen.Int[0, 80], (number, text, depth) =>
        Enumerable.Range(0, depth < 70 ? 0 : depth).Aggregate(new CorpusJob(number, text), (inner, n) => new CorpusJob(n, text.Length > 100 ? "" : text, inner)));

    [Fault("D03", "3,000 jobs, lone surrogates among them", "refused before any statement, or read as they were given")]
    [Fact]
    public async Task D03_jobs_are_refused_before_any_statement_or_stored_and_read_as_they_were_given()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        OutboxOptions outbox = new();
        Dictionary<Guid, CorpusJob> given = [];
        List<NewJob> created = [];
        var refused = 0;
        Gen.Select(Args, Options).Sample(
            (job, options) =>
            {
                try
                {
                    created.Add(NewJob.Create(job, options, outbox));
                    given[created[^1].Id] = job;
                }
                catch (InvalidJobException)
                {
                    refused++;
                }
            },
            iter: Jobs,
            threads: 1);

        // By one statement, and by COPY.
        var queue = new JobQueue(database.Enqueuer);
        await queue.EnqueueAsync(created.Take(400), TestContext.Current.CancellationToken);
        await queue.EnqueueAsync(created.Skip(400), TestContext.Current.CancellationToken);
        Assert.Equal((long)created.Count, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

        foreach (var (id, job) in given)
            Assert.Equal(job, JobJson.Read<CorpusJob>((await database.ScalarAsync<byte[]>($"SELECT convert_to(args::text, 'UTF8') FROM outbox.jobs WHERE id = '{id}'")), outbox));
        output.WriteLine($"{Jobs} cases: {refused} refused, {created.Count} stored.");
        Assert.InRange(created.Count, Jobs / 4, Jobs);
    }

    [Fact]
    public async Task Filters_find_nothing_or_are_refused_whatever_is_in_them()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        var moments = Gen.DateTimeOffset.Select(at => (DateTimeOffset?)at);
        var refused = 0;
        await Gen.Select(Gen.Select(Corpus.Texts, Corpus.Texts, Corpus.Texts), Gen.Select(moments, moments, Gen.Guid.Array[0, 3])).SampleAsync(
            async (texts, more) =>
            {
                JobFilter filter = new()
                {
                    Queue = texts.Item1, Kind = texts.Item2, ErrorContains = texts.Item3, CreatedAfter = more.Item1, FinishedBefore = more.Item2, Ids = more.Item3,
                };
                try
                {
                    Assert.Equal(0, await admin.CountAsync(filter));
                    Assert.Equal(0, await admin.RetryAsync(filter));
                    await admin.PauseQueueAsync("default", texts.Item1, texts.Item2);
                }
                catch (OutboxException)
                {
                    refused++;
                }
            },
            iter: Filters,
            threads: 1);
        output.WriteLine($"{Filters} cases: {refused} refused.");
    }

    [Fault("W23", "200 exceptions: megabytes, NUL, lone surrogates, cycles", "stored bounded and clean")]
    [Fact]
    public async Task W23_whatever_text_a_handler_throws_its_job_ends_with_a_reason()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var text = Gen.Frequency((20, Corpus.Texts), (1, Gen.Const(new string('z', 10_000_000))));
        await using var worker = await WorkerHost.StartAsync(
            database, outbox => outbox.Handle<NumberJob>((_, _, _) => throw Nested(text.Single(), 3), kind => kind.Retry = RetryPolicy.None));
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, Failures).Select(n => NewJob.Create(new NumberJob(n))), TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'dead'") == Failures, "all have ended");
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE errors -> -1 ->> 'type' <> 'System.InvalidOperationException'"));
        Assert.True(await database.ScalarAsync<long>("SELECT max(pg_column_size(errors))::bigint FROM outbox.job_history") < 100_000);
        output.WriteLine($"{Failures} cases.");

        static InvalidOperationException Nested(string message, int levels) => new(message, levels == 0 ? null : Nested(message, levels - 1));
    }
}
