using System.Diagnostics;
using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Peers;
using BackgroundJobs.Outbox.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// What the processes that a role runs in have in common.
internal static class Role
{
    public static string ConnectionString => Environment.GetEnvironmentVariable("BENCHMARK_CONNECTION")!;

    // Of the machine, so that processes can compare; microseconds.
    public static long Monotonic => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1_000_000);

    public static async Task RunAsync(string role, string[] arguments)
    {
        int Number(int at) => int.Parse(arguments[at], null);
        object answer = role switch
        {
            "drain" => await Drain.RunAsync(Number(0), Number(1), Enum.Parse<HistoryPolicy>(arguments[2])),
            "drain-floor" => await DrainFloor.RunAsync(Number(0), Enum.Parse<HistoryPolicy>(arguments[1]), Number(2)),
            "drain-first" => await DrainFirst.RunAsync(Number(0), Number(1)),
            "serve" => await Serve.RunAsync(Number(0), arguments.Length > 1 ? Number(1) : 3, arguments.Length > 2 ? Number(2) : 0),
            "listen-floor" => await ListenFloor.RunAsync(Number(0)),
            "local-latency" => await LocalLatency.RunAsync(Number(0), Number(1)),
            "complete-with" => await CompleteWithDrain.RunAsync(Number(0), Number(1)),
            "complete-floor" => await CompleteWithDrain.FloorAsync(Number(0), Number(1)),
            "hot-paths" => HotPaths.Run(),
            "sustain" => await Sustain.RunAsync(Number(0), Number(1)),
            "hangfire-preload" => await HangfirePeer.PreloadAsync(Number(0)),
            "hangfire-drain" => await HangfirePeer.DrainAsync(Number(0), Number(1)),
            "hangfire-serve" => await HangfirePeer.ServeAsync(Number(0), arguments.Length > 1 ? Number(1) : 3),
            "quartz-preload" => await QuartzPeer.PreloadAsync(Number(0)),
            "quartz-drain" => await QuartzPeer.DrainAsync(Number(0), Number(1)),
            _ => throw new ArgumentException($"Unknown role {role}."),
        };
        Console.WriteLine(JsonSerializer.Serialize(answer));
    }

    // A worker as the README shows it: nothing but the connection and the handler is said. Only EF Core's line for every command is left
    // out, as the peers and the loops by hand, which have no log, leave it out.
    public static IHost Worker(Action<OutboxOptions> outbox, Action<OutboxWorkerOptions>? worker = null, Action<IServiceCollection>? services = null)
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.AddFilter("Microsoft.EntityFrameworkCore", LogLevel.Warning);
        builder.Services.AddOutbox(outbox);
        builder.Services.AddOutboxWorker(options =>
        {
            options.ConnectionString = ConnectionString;
            worker?.Invoke(options);
        });
        services?.Invoke(builder.Services);
        return builder.Build();
    }

    public static async Task UntilAsync(string sql)
    {
        await using var source = NpgsqlDataSource.Create(ConnectionString);
        await using var connection = await source.OpenConnectionAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        while (!(bool)(await command.ExecuteScalarAsync())!)
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
    }

    public static double PeakMegabytes()
    {
        using var self = Process.GetCurrentProcess();
        return self.PeakWorkingSet64 / 1024.0 / 1024.0;
    }
}
