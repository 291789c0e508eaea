using System.Transactions;
using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// One writer's operations. An operation is an entity or more, each with its job, in one transaction; its form is drawn from the seed.
internal sealed class Operations(NpgsqlDataSource connections, ActorLog log, ActorSettings settings, int number)
{
    private readonly JobQueue queue = new(connections);
    private readonly DbContextOptions<ChaosDb> plain = Options(settings, number, _ => { });
    private readonly DbContextOptions<ChaosDb> retrying = Options(settings, number, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.FromMilliseconds(200), null));

    public Task OneAsync(Random random)
    {
        // Everything that is drawn is drawn here, so that a seed gives the same operations whatever becomes of them.
        var draw = new Draw(random);
        return random.Next(16) switch
        {
            0 => RunAsync(draw, ImplicitAsync),
            1 => RunAsync(draw, operation => Task.Run(() => Save(draw, operation))),
            2 => RunAsync(draw, operation => ExplicitAsync(draw, operation)),
            3 => RunAsync(draw, operation => RolledBackAsync(draw, operation), always: Word.Fail),
            4 => SavepointAsync(draw),
            5 => RunAsync(draw, operation => ScopeAsync(draw, operation)),
            6 => RunAsync(draw, operation => ForeignAsync(draw, operation)),
            7 => RunAsync(draw, operation => RetryingAsync(draw, operation)),
            8 => RunAsync(draw, LateAsync),
            9 => RunAsync(draw, operation => WithoutEfAsync(draw, operation)),
            10 => RunAsync(draw, InSqlAsync),
            11 => RunAsync(draw, operation => ManyAsync(draw, operation)),
            12 => RunAsync(draw, operation => OnceAsync(draw, operation)),
            13 => RunAsync(draw, operation => GroupAsync(draw, operation, GroupQueues.Limited)),
            14 => RunAsync(draw, operation => GroupAsync(draw, operation, draw.Failures == 1 ? GroupQueues.Fifo : GroupQueues.Strict)),
            _ => RunAsync(draw, operation => FlowAsync(draw, operation)),
        };

        async Task ImplicitAsync(Guid operation)
        {
            await using var db = new ChaosDb(plain);
            Add(db, draw, operation);
            await db.SaveChangesAsync(draw.Impatient());
        }

        async Task LateAsync(Guid operation)
        {
            await using var db = new ChaosDb(plain);
            var entity = new Entity { Operation = operation };
            db.Add(entity);
            entity.JobId = db.Enqueue(() => new LateJob(entity.Id, operation));
            await db.SaveChangesAsync();
        }
    }

    // Always: what is told whatever happens, of an operation that is never committed.
    private async Task RunAsync(Draw draw, Func<Guid, Task> body, string? always = null)
    {
        log.Write(Word.Invoke, draw.Operation);
        try
        {
            await body(draw.Operation);
            log.Write(always ?? Word.Ok, draw.Operation);
        }
#pragma warning disable CA1031 // Whatever it is, it is what this writer was told.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log.Write(always ?? Told(e), draw.Operation, note: $"{e.GetType().Name}: {e.Message}");
        }
    }

    private void Save(Draw draw, Guid operation)
    {
        using var db = new ChaosDb(plain);
        Add(db, draw, operation);
        db.SaveChanges();
    }

    private async Task ExplicitAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(plain);
        await using var transaction = await db.Database.BeginTransactionAsync();
        Add(db, draw, operation);
        await db.SaveChangesAsync();
        await transaction.CommitAsync(draw.Impatient());
    }

    private async Task RolledBackAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(plain);
        await using var transaction = await db.Database.BeginTransactionAsync();
        Add(db, draw, operation);
        await db.SaveChangesAsync();
        await transaction.RollbackAsync();
    }

    private async Task SavepointAsync(Draw draw)
    {
        log.Write(Word.Invoke, draw.Second);
        await RunAsync(draw, async operation =>
        {
            await using var db = new ChaosDb(plain);
            await using var transaction = await db.Database.BeginTransactionAsync();
            Add(db, draw, operation);
            await db.SaveChangesAsync();
            await transaction.CreateSavepointAsync("second");
            Add(db, draw, draw.Second);
            await db.SaveChangesAsync();
            await transaction.RollbackToSavepointAsync("second");
            await transaction.CommitAsync();
        });
        log.Write(Word.Fail, draw.Second, note: "rolled back to a savepoint");
    }

    private async Task ScopeAsync(Draw draw, Guid operation)
    {
        using var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
        await using var db = new ChaosDb(plain);
        Add(db, draw, operation);
        await db.SaveChangesAsync();
        scope.Complete();
    }

    private async Task ForeignAsync(Draw draw, Guid operation)
    {
        await using var connection = await connections.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using var db = new ChaosDb(Configure(new DbContextOptionsBuilder<ChaosDb>().UseNpgsql(connection)));
        await db.Database.UseTransactionAsync(transaction);
        Add(db, draw, operation);
        await db.SaveChangesAsync();
        await transaction.CommitAsync();
    }

    private async Task RetryingAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(retrying);
        Add(db, draw, operation);
        await db.SaveChangesAsync();
    }

    private async Task WithoutEfAsync(Draw draw, Guid operation)
    {
        await using var connection = await connections.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        var job = await queue.EnqueueAsync(transaction, new FlakyJob(draw.Failures));
        await InsertAsync(connection, transaction, operation, job);
        await transaction.CommitAsync();
        await queue.WakeAsync("default");
    }

    private async Task InSqlAsync(Guid operation)
    {
        await using var command = connections.CreateCommand("INSERT INTO entities (operation, job_id) SELECT $1, outbox.enqueue('chaos.plain')");
        command.Parameters.AddWithValue(operation);
        await command.ExecuteNonQueryAsync();
    }

    private async Task ManyAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(plain);
        for (var each = 0; each < 15; each++)
            Add(db, draw, operation);
        await db.SaveChangesAsync();
    }

    private async Task GroupAsync(Draw draw, Guid operation, string to)
    {
        await using var db = new ChaosDb(plain);
        for (var each = 0; each < (to == GroupQueues.Limited ? 3 : 2); each++)
            db.Entities.Add(new Entity { Operation = operation, JobId = draw.EnqueueGrouped(db, to, each) });
        await db.SaveChangesAsync(draw.Impatient());
    }

    private async Task OnceAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(plain);
        foreach (var job in draw.EnqueueOnce(db))
            db.Entities.Add(new Entity { Operation = operation, JobId = job });
        await db.SaveChangesAsync(draw.Impatient());
    }

    // A diamond, some of which grow, and what runs where its beginning fails.
    private async Task FlowAsync(Draw draw, Guid operation)
    {
        await using var db = new ChaosDb(plain);
        var flow = db.StartWorkflow();
        var first = Add(draw.Enqueue(flow));
        var left = Add(flow.Enqueue(draw.Part, after: first));
        var right = Add(flow.Enqueue(new BriefJob(), after: first.Always));
        Add(flow.Enqueue(new EffectJob(10), after: [left.Always, right]));
        Add(flow.Enqueue(new PlainJob(), after: first.OnFailure));
        await db.SaveChangesAsync(draw.Impatient());

        WorkflowJob Add(WorkflowJob job)
        {
            db.Entities.Add(new Entity { Operation = operation, JobId = job.Id });
            return job;
        }
    }

    private static async Task InsertAsync(NpgsqlConnection connection, NpgsqlTransaction transaction, Guid operation, Guid job)
    {
        await using var command = new NpgsqlCommand("INSERT INTO entities (operation, job_id) VALUES ($1, $2)", connection, transaction)
        {
            Parameters = { new() { Value = operation }, new() { Value = job } },
        };
        await command.ExecuteNonQueryAsync();
    }

    private static void Add(ChaosDb db, Draw draw, Guid operation) => db.Entities.Add(new Entity { Operation = operation, JobId = draw.Enqueue(db) });

    // An answer of the server says that it did not commit, unless the server was ending the session: that can come after the commit.
    private static string Told(Exception e)
    {
        for (var each = e; each is not null; each = each.InnerException)
        {
            if (each is DuplicateJobException)
                return Word.Duplicate;
            if (each is PostgresException answer)
                return answer.SqlState.StartsWith("57", StringComparison.Ordinal) ? Word.Unknown : Word.Fail;
        }

        return Word.Unknown;
    }

    private static DbContextOptions<ChaosDb> Options(
        ActorSettings settings, int number, Action<Npgsql.EntityFrameworkCore.PostgreSQL.Infrastructure.NpgsqlDbContextOptionsBuilder> npgsql) =>
        Configure(new DbContextOptionsBuilder<ChaosDb>().UseNpgsql($"{settings.ConnectionString};Application Name=writer {settings.Name}.{number}", npgsql));

    private static DbContextOptions<ChaosDb> Configure(DbContextOptionsBuilder<ChaosDb> builder) => builder.UseOutbox().Options;
}
