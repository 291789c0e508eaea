using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class TelemetryTests
{
    [Fact]
    public async Task A_run_is_a_trace_of_its_own_that_links_to_the_enqueuers()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentBag<Activity> runs = [];
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name is OutboxTelemetry.Name or "test",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = runs.Add,
        };
        ActivitySource.AddActivityListener(listener);
        using var source = new ActivitySource("test");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));

        string trace;
        Guid id;
        using (var request = source.StartActivity("request")!)
        {
            trace = request.TraceId.ToString();
            id = await worker.EnqueueAsync(new NumberJob(1));
        }

        await Eventually.TrueAsync(() => runs.Any(each => Equals(each.GetTagItem("messaging.message.id"), id.ToString())), "the run is traced");
        var run = runs.Single(each => Equals(each.GetTagItem("messaging.message.id"), id.ToString()));
        Assert.Equal("number run", run.DisplayName);
        Assert.Equal(trace, Assert.Single(run.Links).Context.TraceId.ToString());
        Assert.NotEqual(trace, run.TraceId.ToString());
    }

    [Fact]
    public async Task Ends_are_counted_and_durations_measured()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentBag<string> measured = [];
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == OutboxTelemetry.Name)
                self.EnableMeasurementEvents(instrument);
        };
        void Take<T>(Instrument instrument, T value, ReadOnlySpan<KeyValuePair<string, object?>> tags, object? state) =>
            measured.Add($"{instrument.Name} {string.Join(' ', tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"))}");
        listener.SetMeasurementEventCallback<long>(Take);
        listener.SetMeasurementEventCallback<double>(Take);
        listener.Start();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask), o => o.Queue("metered"));
        await worker.EnqueueAsync(new NumberJob(1), new() { Queue = "metered" });
        await Eventually.TrueAsync(() => measured.Contains("outbox.jobs.ended end=Completed kind=number queue=metered"), "the end is counted");
        Assert.Contains("outbox.job.duration end=Completed kind=number queue=metered", measured);
        Assert.Contains("outbox.job.wait queue=metered", measured);
    }

    [Fault("X18", "the same, with debug logs on", "no payload, header or password")]
    [Fault("X20", "a connection string with a password", "never printed")]
    [Fact]
    public async Task Logs_tell_ends_and_no_payload_header_or_password()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<OtherJob>((_, _, _) => Task.CompletedTask),
            services: services => services.AddLogging(logging => logging.SetMinimumLevel(LogLevel.Debug)));
        var id = await worker.EnqueueAsync(new OtherJob("canary-args"), new() { Headers = new Dictionary<string, string> { ["h"] = "canary-header" } });
        await Eventually.TrueAsync(() => worker.Log.Text.Contains($"Job {id} other completed: attempt 1", StringComparison.Ordinal), "the end is logged");
        await worker.StopAsync();
        Assert.DoesNotContain("canary", worker.Log.Text, StringComparison.Ordinal);
        Assert.DoesNotContain(new Npgsql.NpgsqlConnectionStringBuilder(database.ConnectionString).Password ?? "no password", worker.Log.Text, StringComparison.Ordinal);
    }
}
