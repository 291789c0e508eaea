using System.Globalization;
using System.Text.Json.Serialization;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// Values at their ends: refused at the enqueue, or the handler gets what was given.
public sealed class PayloadTests
{
    [Fault("D04", "63, 64, 65 and 20,000 levels", "what can be enqueued can be read")]
    [Theory]
    [InlineData(63, true)]
    [InlineData(64, true)]
    [InlineData(65, false)]
    [InlineData(20_000, false)]
    public async Task D04_arguments_that_can_be_enqueued_can_be_read_however_deep_they_are(int depth, bool stored)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        List<int> depths = [];
        await using var worker = await StartAsync(database, o => o.Handle<DeepJob>((job, _, _) =>
        {
            depths.Add(job.Nested!.Depth);
            return Task.CompletedTask;
        }));
        Nested? nested = null;
        for (var n = 1; n < depth; n++)
            nested = new() { Inner = nested };
        if (!stored)
        {
            var error = await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(new DeepJob(nested)));
            Assert.Contains(DeepJob.Kind, error.Message, StringComparison.Ordinal);
            Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
            return;
        }

        await worker.EnqueueAsync(new DeepJob(nested));
        await EndedAsync(database, 1);
        Assert.Equal([depth - 1], depths);
    }

    [Fault("D04", "2,000 levels, by another program", "dead with a reason")]
    [Fact]
    public async Task D04_arguments_that_another_program_made_too_deep_are_dead_with_a_reason()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.Handle<DeepJob>((_, _, _) => Task.CompletedTask, kind => kind.Retry = RetryPolicy.None));
        await database.ExecuteAsync("SELECT outbox.enqueue('deep', ('{\"nested\":' || repeat('{\"inner\":', 2000) || 'null' || repeat('}', 2000) || '}')::jsonb)");
        await EndedAsync(database, 1);
        Assert.Contains("depth", await database.ScalarAsync<string>("SELECT errors->-1->>'message' FROM outbox.job_history WHERE state = 'dead'"), StringComparison.OrdinalIgnoreCase);
    }

    [Fault("D05", "numbers at the ends of their types", "arrive as given; NaN and infinity are refused")]
    [Fault("D07", "moments of every kind and offset", "arrive as given")]
    [Fact]
    public async Task D05_D07_numbers_and_moments_at_their_ends_arrive_as_they_were_given()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var jobs = new EdgeJob[]
        {
            new(long.MaxValue, ulong.MaxValue, decimal.MaxValue, double.MaxValue, DateTime.MaxValue, DateTimeOffset.MaxValue),
            new(long.MinValue, 0, decimal.MinValue, double.Epsilon, DateTime.MinValue, DateTimeOffset.MinValue),
            new(9_007_199_254_740_993, 18_014_398_509_481_985, 0.1234567890123456789012345678m, -0.1, new(2026, 10, 25, 2, 30, 0, DateTimeKind.Unspecified), new(2026, 10, 25, 2, 30, 0, TimeSpan.FromHours(2))),
            new(0, 1, 1e-28m, 1e308, new(2026, 3, 29, 1, 0, 0, DateTimeKind.Utc), new(2026, 3, 29, 2, 30, 0, TimeSpan.FromHours(-11))),
        };
        Dictionary<Guid, EdgeJob> got = [];
        await using var worker = await StartAsync(database, o => o.Handle<EdgeJob>((job, context, _) =>
        {
            lock (got)
                got[context.JobId] = job;
            return Task.CompletedTask;
        }));
        Dictionary<Guid, EdgeJob> given = [];
        foreach (var job in jobs)
            given[await worker.EnqueueAsync(job)] = job;
        await EndedAsync(database, jobs.Length);
        Assert.Equal(given, got);
        Assert.All(given, each => Assert.Equal((each.Value.Moment.Kind, each.Value.Offset.Offset), (got[each.Key].Moment.Kind, got[each.Key].Offset.Offset)));
        foreach (var number in new[] { double.NaN, double.PositiveInfinity, double.NegativeInfinity })
            await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(jobs[0] with { Double = number }));
    }

    [Fault("D05", "1e400 for an integer", "dead with the path")]
    [Theory]
    [InlineData("{\"number\": 1e400}")]
    [InlineData("{\"number\": 1.5}")]
    [InlineData("{\"number\": 99999999999999999999}")]
    public async Task D05_a_number_that_its_type_cannot_hold_is_dead_with_a_reason(string args)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask, kind => kind.Retry = RetryPolicy.None));
        await database.ExecuteAsync($"SELECT outbox.enqueue('number', '{args}')");
        await EndedAsync(database, 1);
        Assert.Contains("$.number", await database.ScalarAsync<string>("SELECT errors->-1->>'message' FROM outbox.job_history WHERE state = 'dead'"), StringComparison.Ordinal);
    }

    [Fault("D06", "doubled keys, $type, __proto__", "properties that nobody asked for")]
    [Fault("X02", "gadgets for polymorphic deserialisers", "no type is chosen by data")]
    [Theory]
    [InlineData("{\"number\": 1, \"number\": 2}", 2)]
    [InlineData("{\"$type\": \"System.Diagnostics.Process, System.Diagnostics.Process\", \"number\": 3}", 3)]
    [InlineData("{\"__proto__\": {\"number\": 9}, \"constructor\": {}, \"number\": 4}", 4)]
    [InlineData("{\"$id\": \"1\", \"$ref\": \"1\", \"$values\": [], \"number\": 5}", 5)]
    public async Task D06_X02_words_that_choose_a_type_or_a_prototype_elsewhere_are_properties_nobody_asked_for(string args, int number)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        List<int> got = [];
        List<string> loaded = [];
        AppDomain.CurrentDomain.AssemblyLoad += (_, e) =>
        {
            lock (loaded)
                loaded.Add(e.LoadedAssembly.GetName().Name!);
        };
        await using var worker = await StartAsync(database, o => o.Handle<NumberJob>((job, _, _) =>
        {
            got.Add(job.Number);
            return Task.CompletedTask;
        }));
        await database.ExecuteAsync($"SELECT outbox.enqueue('number', '{args}')");
        await EndedAsync(database, 1);
        Assert.Equal([number], got);
        lock (loaded)
            Assert.DoesNotContain("System.Diagnostics.Process", loaded);
    }

    [Fault("D07", "infinity and years that .NET has not", "refused")]
    [Fault("D13", "run at the beginning and the end of time, negative delays", "the past means now; the rest is refused")]
    [Fact]
    public async Task D07_D13_any_moment_that_a_job_may_have_is_kept_the_past_means_now_and_the_rest_is_refused()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        var past = await worker.EnqueueAsync(new NumberJob(1), new() { RunAt = DateTimeOffset.UnixEpoch });
        var first = await worker.EnqueueAsync(new NumberJob(2), new() { RunAt = new(1, 1, 2, 0, 0, 0, TimeSpan.Zero) });
        await EndedAsync(database, 2);
        Assert.Equal("completed,completed", await database.ScalarAsync<string>($"SELECT string_agg(state, ',') FROM outbox.job_history WHERE id IN ('{past}', '{first}')"));

        var last = await worker.EnqueueAsync(new NumberJob(3), new() { RunAt = new(9999, 12, 29, 23, 59, 59, TimeSpan.Zero) });
        var offset = await worker.EnqueueAsync(new NumberJob(4), new() { RunAt = new(2099, 6, 1, 12, 0, 0, TimeSpan.FromHours(14)) });
        Assert.Equal("9999-12-29 23:59:59", await RunAtAsync(last));
        Assert.Equal("2099-05-31 22:00:00", await RunAtAsync(offset));

        await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(new NumberJob(5), new() { RunAt = DateTimeOffset.MinValue }));
        await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(new NumberJob(5), new() { Delay = TimeSpan.FromTicks(-1) }));
        await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(new NumberJob(5), new() { Delay = TimeSpan.MaxValue }));
        foreach (var moment in new[] { "infinity", "-infinity", "10000-01-01", "0044-03-15 BC" })
        {
            var refused = await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync($"SELECT outbox.enqueue('number', '{{\"number\": 1}}', run_at => '{moment}')"));
            Assert.StartsWith("2", refused.SqlState, StringComparison.Ordinal);
        }

        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

        Task<string> RunAtAsync(Guid id) => database.ScalarAsync<string>($"SELECT to_char(run_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM outbox.jobs WHERE id = '{id}'");
    }

    [Fault("D16", "line breaks and escapes in names and messages", "no log line begins inside another")]
    [Theory]
    [InlineData("kind\r\nInformation: forged")]
    [InlineData("kind\u2028forged")]
    [InlineData("\u001b[31mred")]
    public async Task D16_nothing_that_stands_in_a_log_line_can_begin_another(string name)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => throw new LineBreakException(name), kind => kind.Retry = RetryPolicy.None));
        Assert.Throws<InvalidJobException>(() => NewJob.Create(new NumberJob(1), new() { Queue = name }));
        await Assert.ThrowsAsync<PostgresException>(async () =>
        {
            await using var raw = database.Admin.CreateCommand("INSERT INTO outbox.jobs (id, queue, kind, args) VALUES (gen_random_uuid(), 'default', $1, '{}')");
            raw.Parameters.Add(new() { Value = name });
            await raw.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        });
        await worker.EnqueueAsync(new NumberJob(1));
        await EndedAsync(database, 1);
        Assert.DoesNotContain("forged", worker.Log.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("\u001b", worker.Log.Text, StringComparison.Ordinal);
    }

    [Fault("D16", "headers and a tracestate without end", "refused or left out")]
    [Fact]
    public async Task D16_headers_and_a_tracestate_without_end_are_refused_with_their_size()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        var error = await Assert.ThrowsAsync<InvalidJobException>(() => worker.EnqueueAsync(
            new NumberJob(1), new() { Headers = new Dictionary<string, string> { ["tracestate"] = string.Concat(Enumerable.Repeat("a=b,", 100_000)) } }));
        Assert.Matches("[0-9]{3}", error.Message);
        using var giant = new System.Diagnostics.Activity("giant") { TraceStateString = new string('a', 100_000) };
        giant.Start();
        await worker.EnqueueAsync(new NumberJob(2));
        giant.Stop();
        await EndedAsync(database, 1);
        Assert.InRange(await database.ScalarAsync<int>("SELECT coalesce(length(traceparent), 0) + coalesce(length(headers::text), 0) FROM outbox.job_history"), 0, 2000);
    }

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, Action<OutboxOptions> outbox) => WorkerHost.StartAsync(database, outbox, o => o.PollInterval = TimeSpan.FromMilliseconds(300));

    private static Task EndedAsync(ScratchDatabase database, long jobs) =>
        Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == jobs, string.Create(CultureInfo.InvariantCulture, $"{jobs} have ended"));

    private sealed class LineBreakException(string message) : Exception(message);
}

internal sealed class Nested
{
    public Nested? Inner { get; init; }

    [JsonIgnore]
    public int Depth => 1 + (Inner?.Depth ?? 0);
}

internal sealed record DeepJob(Nested? Nested) : IJob
{
    public static string Kind => "deep";
}

internal sealed record EdgeJob(long Long, ulong Ulong, decimal Decimal, double Double, DateTime Moment, DateTimeOffset Offset) : IJob
{
    public static string Kind => "edge";
}
