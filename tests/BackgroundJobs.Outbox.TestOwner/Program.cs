using System.Runtime.InteropServices;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

// Arguments: what to do, and the folder for the lock file: not the user's, or the next start of anybody cleans up what a test looks for.
// A process that owns a server, for tests that end such a process in every way there is. It says where the server is, and then
//   wait      waits to be killed, with the runtime's own handling of signals
//   return    ends at the next line of its input, and disposes of nothing
//   graceful  on SIGINT asks its server something first, as an application does that stops in order
var server = await PostgresServer.StartAsync(
    new PostgresServerOptions(), SearchPlaces.OfThisProcess() with { Connection = null, LockFolder = args[1] }, CancellationToken.None);
await Console.Out.WriteLineAsync(server.ConnectionString);

switch (args[0])
{
    case "wait":
        await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
        break;
    case "return":
        Console.ReadLine();
        break;
    case "graceful":
        var stopping = new TaskCompletionSource();
        using (PosixSignalRegistration.Create(PosixSignal.SIGINT, signal =>
        {
            signal.Cancel = true;
            stopping.TrySetResult();
        }))
        {
            await Console.Out.WriteLineAsync("ready");
            await stopping.Task;
            await using var source = NpgsqlDataSource.Create(server.ConnectionString);
            await using var command = source.CreateCommand("SELECT 'still there'");
            await Console.Out.WriteLineAsync((string?)await command.ExecuteScalarAsync());
        }

        break;
    default:
        throw new ArgumentException($"Unknown mode '{args[0]}'.");
}
