using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// One actor's connection. A step that has to wait for another session's lock stays under way, and the steps that follow wait behind it.
internal sealed class Session(NpgsqlConnection connection, Situation situation) : IAsyncDisposable
{
    private readonly Queue<Func<Session, Task>> waiting = new();
    private readonly List<Action> onCommit = [];
    private NpgsqlTransaction? transaction;
    private Task running = Task.CompletedTask;

    public Situation Situation => situation;

    public int ProcessId => connection.ProcessID;

    public bool IsIdle => running.IsCompleted && waiting.Count == 0;

    public Task Running => running;

    public bool IsRunning => !running.IsCompleted;

    public void Add(Func<Session, Task> step) => waiting.Enqueue(step);

    // The next step that waits, if nothing is under way.
    public void Go()
    {
        if (running.IsFaulted)
            running.GetAwaiter().GetResult();
        if (running.IsCompleted && waiting.TryDequeue(out var step))
            running = step(this);
    }

    // True only of what is committed.
    public void Note(Action fact) => onCommit.Add(fact);

    public async Task BeginAsync() => transaction = await connection.BeginTransactionAsync();

    public async Task CommitAsync()
    {
        await transaction!.CommitAsync();
        transaction = null;
        foreach (var fact in onCommit)
            fact();
        onCommit.Clear();
    }

    public async Task RollbackAsync()
    {
        await transaction!.RollbackAsync();
        transaction = null;
        onCommit.Clear();
    }

    // One of the library's files; a parameter that is not given is null.
    public async Task<List<object[]>> RunAsync(string file, params (string Name, object Value)[] values)
    {
        var sql = SqlFile.Read(typeof(JobQueue).Assembly, $"sql/{file}.sql", JobDefaults.Schema);
        await using var command = new NpgsqlCommand(situation.Mutant?.Apply(file, sql.Text) ?? sql.Text, connection, transaction);
        foreach (var name in sql.Parameters)
            command.Parameters.Add(new NpgsqlParameter { Value = Array.Find(values, each => each.Name == name).Value ?? DBNull.Value });
        return await ReadAsync(command);
    }

    // As before a statement that finds its rows by their keys; but here it waits for as long as an order asks for.
    public async Task UseKeyAsync()
    {
        await RunAsync("use_key");
        await SqlAsync("SET LOCAL lock_timeout = 0");
    }

    public async Task<List<object[]>> SqlAsync(string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection, transaction);
        return await ReadAsync(command);
    }

    public ValueTask DisposeAsync() => connection.DisposeAsync();

    private static async Task<List<object[]>> ReadAsync(NpgsqlCommand command)
    {
        List<object[]> rows = [];
        await using var reader = await command.ExecuteReaderAsync();
        do
        {
            while (await reader.ReadAsync())
            {
                var row = new object[reader.FieldCount];
                reader.GetValues(row);
                rows.Add(row);
            }
        }
        while (await reader.NextResultAsync());
        return rows;
    }
}
