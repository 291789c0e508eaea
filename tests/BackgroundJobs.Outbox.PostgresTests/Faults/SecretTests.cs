using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// What a job carries and what its handler says of it is for the database, and for nobody who reads logs, traces, metrics or sessions.
public sealed class SecretTests
{
    private const string Canary = "canary-7f3a";

    [Fault("X18", "a canary in arguments, headers, cursors, errors and reasons", "in no log, trace, metric or session")]
    [Fact]
    public async Task X18_arguments_headers_cursors_and_error_texts_are_in_no_log_trace_metric_or_session()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> seen = [];
        using var activities = new ActivityListener
        {
            ShouldListenTo = source => source.Name.StartsWith("BackgroundJobs", StringComparison.Ordinal) || source.Name == "Npgsql",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity => seen.Enqueue(string.Join(' ', activity.TagObjects.Select(each => $"{each.Key}={each.Value}")
                .Concat(activity.Events.SelectMany(each => each.Tags.Select(tag => $"{tag.Key}={tag.Value}")))
                .Concat(activity.Baggage.Select(each => $"{each.Key}={each.Value}"))
                .Append(activity.DisplayName).Append(activity.StatusDescription))),
        };
        ActivitySource.AddActivityListener(activities);
        using var meters = new MeterListener { InstrumentPublished = (instrument, listener) => listener.EnableMeasurementEvents(instrument) };
        meters.SetMeasurementEventCallback<long>((_, _, tags, _) => Measured(tags));
        meters.SetMeasurementEventCallback<int>((_, _, tags, _) => Measured(tags));
        meters.SetMeasurementEventCallback<double>((_, _, tags, _) => Measured(tags));
        meters.Start();

        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o
                .Handle<OtherJob>(
                    (job, context, _) =>
                    {
                        if (context.Cursor<string>() is null)
                            context.SafeExitPoint($"{Canary} cursor");
                        return context.Attempt == 1 ? throw new InvalidOperationException($"{Canary} of {job.Text}", new FormatException(Canary)) : Task.CompletedTask;
                    },
                    kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(200)))
                .Handle<NumberJob>((_, context, _) =>
                {
                    context.Dead($"{Canary} reason");
                    return Task.CompletedTask;
                }),
            services: services => services.AddLogging(logging => logging.SetMinimumLevel(LogLevel.Information)));
        var headers = new Dictionary<string, string> { ["h"] = $"{Canary} header" };
        var id = await worker.EnqueueAsync(new OtherJob($"{Canary} args"), new() { Headers = headers });
        await worker.EnqueueAsync(new NumberJob(1), new() { Headers = headers });
        await using var enqueue = database.Enqueuer.CreateCommand("SELECT outbox.enqueue('number', $1::jsonb, max_attempts => 1::smallint)");
        enqueue.Parameters.Add(new() { Value = $$"""{"number": "{{Canary}}"}""" });
        var wrong = (Guid)(await enqueue.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;

        List<string> sessions = [];
        await Eventually.TrueAsync(
            async () =>
            {
                sessions.AddRange(await database.TextsAsync("SELECT concat_ws(' ', query, application_name) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"));
                return await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0;
            },
            "all have ended");
        await worker.StopAsync();
        string[] told = [.. seen];

        // It was there to be told.
        Assert.Equal("completed", await database.ScalarAsync<string>($"SELECT state FROM outbox.job_history WHERE id = '{id}' AND args::text LIKE '%{Canary}%' AND errors::text LIKE '%{Canary}%' AND headers::text LIKE '%{Canary}%'"));
        Assert.Equal("dead", await database.ScalarAsync<string>($"SELECT state FROM outbox.job_history WHERE id = '{wrong}'"));
        Assert.Contains($"Job {id}", worker.Log.Text, StringComparison.Ordinal);
        Assert.Contains(told, each => each.Contains("other", StringComparison.Ordinal));
        Assert.NotEmpty(sessions);

        Assert.DoesNotContain(Canary, worker.Log.Text, StringComparison.Ordinal);
        Assert.DoesNotContain(told, each => each.Contains(Canary, StringComparison.Ordinal));
        Assert.DoesNotContain(sessions, each => each.Contains(Canary, StringComparison.Ordinal));

        void Measured(ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            foreach (var tag in tags)
                seen.Enqueue($"{tag.Key}={tag.Value}");
        }
    }

    // Any role that may connect may NOTIFY any channel.
    [Fault("X16", "20,000 forged notifications", "a few polls, and nothing changes")]
    [Fact]
    public async Task X16_a_flood_of_forged_notifications_costs_a_few_polls_and_changes_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        var ran = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) =>
            {
                Interlocked.Increment(ref ran);
                return Task.CompletedTask;
            }),
            o => (o.ConnectionString, o.PollInterval) = (proxy.ConnectionString, TimeSpan.FromMinutes(1)));
        await worker.EnqueueAsync(new NumberJob(1), new() { Delay = TimeSpan.FromHours(1) });
        await using var connection = await database.Admin.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var channel = (await database.TextsAsync("SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'"))[0]["LISTEN ".Length..].Trim('"', ' ', ';');
        proxy.TakeRoundTrips();

        const int Sent = 20_000;
        for (var batch = 0; batch < Sent / 1000; batch++)
        {
            // Some are what a hint looks like, due long ago; some are noise.
            await using var flood = new NpgsqlCommand(
                "SELECT pg_notify($1, CASE WHEN n % 2 = 0 THEN 946684800000000 + n || ' default' ELSE md5(n::text) END) FROM generate_series(1, 1000) AS n", connection)
            {
                Parameters = { new() { Value = channel } },
            };
            await flood.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        // The last word is an honest one: what comes before it has been heard.
        await worker.EnqueueAsync(new NumberJob(2));
        await Eventually.TrueAsync(() => Volatile.Read(ref ran) == 1, "an honest one is heard");
        var cost = proxy.TakeRoundTrips();
        TestContext.Current.TestOutputHelper?.WriteLine($"{Sent} forged notifications cost {cost} round trips.");
        Assert.InRange(cost, 0, Sent / 10);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(*) FILTER (WHERE lease_token IS NULL)) FROM outbox.jobs") == "1|1", "the one that is not due still waits");
        Assert.Equal(1, ran);
    }
}
