using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Testing;
using Invoices;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

if (args is not ([] or ["--connection", _]))
{
    await Console.Error.WriteLineAsync("Usage: Invoices [--connection \"Host=...;Database=...\"]. Without it a PostgreSQL is found or started, with a database of this run.");
    return 2;
}

try
{
    await using var server = args is [] ? await PostgresServer.StartAsync() : null;
    var connectionString = server is null ? args[1] : await server.CreateDatabaseAsync();
    await using var connections = NpgsqlDataSource.Create(connectionString);
    await Migrator.MigrateAsync(connectionString);
    await using (var schema = connections.CreateCommand(await Schema.ReadAsync()))
        await schema.ExecuteNonQueryAsync();
    await RunAsync(connections, connectionString);
    return 0;
}
catch (Exception e) when (e is OutboxException or PostgresServerException or NpgsqlException or TimeoutException or ArgumentException)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 2;
}

static async Task RunAsync(NpgsqlDataSource connections, string connectionString)
{
    var builder = Host.CreateApplicationBuilder();
    builder.Logging.ClearProviders().AddSimpleConsole(console => console.SingleLine = true).SetMinimumLevel(LogLevel.Warning);
    builder.Services.AddSingleton(TimeProvider.System);
    builder.Services.AddSingleton<MailProvider>();
    builder.Services.AddDbContext<InvoicesDb>(db => db.UseNpgsql(connections).UseOutbox());
    builder.Services.AddOutbox(outbox => outbox
        .Handle<StartInvoices, StartInvoicesHandler>()
        .Handle<CollectOrders, CollectOrdersHandler>()
        .Handle<RenderInvoice, RenderInvoiceHandler>()
        .Handle<MailInvoice, MailInvoiceHandler>()
        .Handle<ReportInvoices, ReportInvoicesHandler>());

    var monthly = new JobSchedule { Name = "monthly-invoices", Cron = "0 2 1 * *", TimeZone = "Europe/Berlin", Overlap = false };
    builder.Services.AddOutboxWorker(worker =>
    {
        worker.ConnectionString = connectionString;
        worker.Queue("default", 4);

        // On all workers together: ten mails in a second, and one at a time to each domain.
        worker.Queue("mail", 4, new QueueLimits { Rate = new(10, TimeSpan.FromSeconds(1)), GroupConcurrency = 1 });
        worker.Schedule(monthly, new StartInvoices());
    });
    using var host = builder.Build();
    await host.StartAsync();
    Console.WriteLine($"schedule {monthly.Name}: at 2:00 of the first of each month, {monthly.TimeZone}; next {monthly.NextTicks(1, TimeProvider.System.GetUtcNow())[0]:u}");

    // As an operator would who does not wait for the first of the month.
    var options = host.Services.GetRequiredService<OutboxOptions>();
    var queue = new JobQueue(connections, options);
    var started = await new JobAdmin(connections, options).RunScheduleAsync(monthly.Name)
        ?? throw new OutboxException("The schedule was not run: its last job has not ended. Look at queries/schedules.sql.");
    Console.WriteLine("schedule run now");
    var flow = (await queue.WaitAsync(started, TimeSpan.FromMinutes(1))).Result<Guid>();
    await queue.WaitForWorkflowAsync(flow, TimeSpan.FromMinutes(1));

    var ended = await new JobInspector(connections, options).WorkflowAsync(flow);
    Console.WriteLine($"end      {ended!.Completed} of {ended.Total} jobs of the workflow completed");
    await host.StopAsync();
}
