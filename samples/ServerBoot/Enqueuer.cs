using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace ServerBoot;

// What an application does: save something and enqueue what is to be done about it, in one transaction.
internal sealed class Enqueuer(NpgsqlDataSource connections, TimeProvider clock, int seed)
{
    private const double ShareRolledBack = 0.15;
    private const int LongestBurst = 40;
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(25);
    private static readonly TimeSpan WholeRun = TimeSpan.FromSeconds(12);

    private readonly TaskCompletionSource burst = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<(long ServerId, bool Committed, DateTime EndedAt)> ledger = [];

    private int ended;

    // Completes in the middle of a burst, when the workers have more than they can hold: the moment to kill one.
    public Task Burst => burst.Task;

    public int Ended => Volatile.Read(ref ended);

    public async Task RunAsync(IReadOnlyList<ServerRow> rows, CancellationToken cancellationToken)
    {
        var options = new DbContextOptionsBuilder<BootDb>().UseNpgsql(connections).UseOutbox().Options;
        var offset = await ClockOffsetAsync(cancellationToken);
        var random = new Random(seed);
        var pause = TimeSpan.FromTicks(Math.Min(LongestPause.Ticks, WholeRun.Ticks / rows.Count));
        var burstStart = rows.Count * 4 / 10;
        var burstLength = Math.Min(LongestBurst, rows.Count / 2);
        for (var index = 0; index < rows.Count; index++)
        {
            var commit = random.NextDouble() >= ShareRolledBack;
            var id = await SaveAsync(options, rows[index], commit, cancellationToken);
            ledger.Add((id, commit, (clock.GetUtcNow() + offset).UtcDateTime));
            Volatile.Write(ref ended, index + 1);
            if (index == burstStart + (burstLength / 2))
                burst.TrySetResult();
            if (index < burstStart || index >= burstStart + burstLength)
                await Task.Delay(pause, clock, cancellationToken);
        }

        burst.TrySetResult();
        await WriteLedgerAsync(cancellationToken);
    }

    private static async Task<long> SaveAsync(DbContextOptions<BootDb> options, ServerRow row, bool commit, CancellationToken cancellationToken)
    {
        await using var db = new BootDb(options);
        await using var transaction = commit ? null : await db.Database.BeginTransactionAsync(cancellationToken);
        var server = new Server { Name = row.Name, Region = row.Region, Size = row.Size };
        db.Servers.Add(server);

        // server.Id is 0 here. The job gets the key that the database makes, in the same transaction.
        db.Enqueue(() => new BootServer(server.Id));
        await db.SaveChangesAsync(cancellationToken);
        if (transaction is not null)
            await transaction.RollbackAsync(cancellationToken);
        return server.Id;
    }

    // Starts are dated by the database. On another machine its clock may be another one.
    private async Task<TimeSpan> ClockOffsetAsync(CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand("SELECT clock_timestamp()");
        await command.ExecuteScalarAsync(cancellationToken);
        var before = clock.GetUtcNow();
        var theirs = (DateTime)(await command.ExecuteScalarAsync(cancellationToken))!;
        var after = clock.GetUtcNow();
        return theirs - (before + ((after - before) / 2)).UtcDateTime;
    }

    private async Task WriteLedgerAsync(CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand("INSERT INTO ledger (server_id, committed, ended_at) SELECT * FROM unnest($1, $2, $3)");
        command.Parameters.AddWithValue(ledger.Select(each => each.ServerId).ToArray());
        command.Parameters.AddWithValue(ledger.Select(each => each.Committed).ToArray());
        command.Parameters.AddWithValue(ledger.Select(each => each.EndedAt).ToArray());
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
