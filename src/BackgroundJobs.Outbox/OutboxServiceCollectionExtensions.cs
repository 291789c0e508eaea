using BackgroundJobs.Outbox;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers what every part of the outbox shares.</summary>
public static class OutboxServiceCollectionExtensions
{
    /// <summary>
    /// Adds the outbox's options and handlers. May be called several times, by each module for its own kinds: all calls configure the same
    /// <see cref="OutboxOptions"/>.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">Schema, JSON, and one <c>Handle</c> per kind.</param>
    /// <returns>The same services.</returns>
    /// <exception cref="OutboxException">An option is out of range, or a kind has two handlers.</exception>
    public static IServiceCollection AddOutbox(this IServiceCollection services, Action<OutboxOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        var options = services.FirstOrDefault(each => each.ServiceType == typeof(OutboxOptions))?.ImplementationInstance as OutboxOptions;
        if (options is null)
        {
            options = new OutboxOptions();
            services.AddSingleton(options);
        }

        configure?.Invoke(options);
        foreach (var registration in options.Registry?.All ?? [])
            registration.Register(services);
        return services;
    }
}
