using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.Worker;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers the worker.</summary>
public static class OutboxWorkerServiceCollectionExtensions
{
    /// <summary>
    /// Runs jobs in this process, for as long as the host runs. The kinds and their handlers are those of <c>AddOutbox</c>. May be called
    /// several times, for workers on several databases or with separate leases.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">Connection, queues and times.</param>
    /// <returns>The same services.</returns>
    /// <exception cref="OutboxException">When the host starts: an option is out of range, there is no handler, or the database has no schema.</exception>
    public static IServiceCollection AddOutboxWorker(this IServiceCollection services, Action<OutboxWorkerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddOutbox();

        // Not AddHostedService: it would keep only the first of several workers.
        return services.AddSingleton<IHostedService>(provider =>
        {
            var options = new OutboxWorkerOptions();
            configure?.Invoke(options);
            return new OutboxWorkerService(
                options,
                provider.GetRequiredService<OutboxOptions>(),
                provider.GetRequiredService<IServiceScopeFactory>(),
                provider.GetService<NpgsqlDataSource>(),
                provider.GetRequiredService<ILoggerFactory>());
        });
    }
}
