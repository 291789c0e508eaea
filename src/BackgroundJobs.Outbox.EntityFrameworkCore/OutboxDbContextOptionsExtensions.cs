using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.Extensions.DependencyInjection;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Sets a context up for the outbox.</summary>
public static class OutboxDbContextOptionsExtensions
{
    /// <summary>
    /// Lets a context enqueue jobs in its SaveChanges. The one line of set-up: it maps our tables (outside the application's migrations) and
    /// adds the interceptor. Call it after other interceptors were added, so that jobs they enqueue are seen.
    /// </summary>
    /// <param name="builder">The context's options, already with UseNpgsql.</param>
    /// <param name="configure">
    /// Options for this context alone, in place of those of <c>AddOutbox</c>. Default: those of <c>AddOutbox</c> in the application's
    /// services; without it, the library's.
    /// </param>
    /// <param name="notify">
    /// Whether to wake workers of other processes by NOTIFY, after the commit, on a connection of its own, at most 50 times a second. Default:
    /// true; without it they find the jobs when they poll.
    /// </param>
    /// <returns>The same builder.</returns>
    public static DbContextOptionsBuilder UseOutbox(this DbContextOptionsBuilder builder, Action<OutboxOptions>? configure = null, bool notify = true)
    {
        ArgumentNullException.ThrowIfNull(builder);
        OutboxOptions? options = null;
        if (configure is not null)
        {
            options = new OutboxOptions();
            configure(options);
        }

        options ??= builder.Options.FindExtension<CoreOptionsExtension>()?.ApplicationServiceProvider?.GetService<OutboxOptions>() ?? new OutboxOptions();
        var isFirst = builder.Options.FindExtension<OutboxOptionsExtension>() is null;
        ((IDbContextOptionsBuilderInfrastructure)builder).AddOrUpdateExtension(new OutboxOptionsExtension(options, notify));
        return isFirst ? builder.AddInterceptors(OutboxInterceptor.Instance) : builder;
    }

    /// <inheritdoc cref="UseOutbox(DbContextOptionsBuilder, Action{OutboxOptions}?, bool)"/>
    /// <typeparam name="TContext">The context.</typeparam>
    public static DbContextOptionsBuilder<TContext> UseOutbox<TContext>(
        this DbContextOptionsBuilder<TContext> builder, Action<OutboxOptions>? configure = null, bool notify = true)
        where TContext : DbContext => (DbContextOptionsBuilder<TContext>)UseOutbox((DbContextOptionsBuilder)builder, configure, notify);
}
