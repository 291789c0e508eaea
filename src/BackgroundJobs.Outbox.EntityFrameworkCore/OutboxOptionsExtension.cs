using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata.Conventions;
using Microsoft.EntityFrameworkCore.Metadata.Conventions.Infrastructure;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// What UseOutbox() adds to a context's options.
internal sealed class OutboxOptionsExtension(OutboxOptions options, bool notify) : IDbContextOptionsExtension
{
    public OutboxOptions Options => options;

    public bool Notify => notify;

    // EF Core asks for it with every context.
    public DbContextOptionsExtensionInfo Info => field ??= new ExtensionInfo(this);

    public void ApplyServices(IServiceCollection services)
    {
        var schema = options.Schema;
        services.AddScoped<IConventionSetPlugin>(_ => new Plugin(schema));
        services.AddScoped<PendingJobs>();
        services.AddScoped<IResettableService>(provider => provider.GetRequiredService<PendingJobs>());
    }

    public void Validate(IDbContextOptions options)
    {
    }

    private sealed class Plugin(string schema) : IConventionSetPlugin
    {
        public ConventionSet ModifyConventions(ConventionSet conventionSet)
        {
            var convention = new OutboxModelConvention(schema);
            conventionSet.ModelInitializedConventions.Add(convention);
            conventionSet.ModelFinalizingConventions.Add(convention);
            conventionSet.ModelFinalizedConventions.Add(convention);
            return conventionSet;
        }
    }

    // Only the schema shapes the model; everything else may differ between contexts that share EF's internal services.
    private sealed class ExtensionInfo(OutboxOptionsExtension extension) : DbContextOptionsExtensionInfo(extension)
    {
        private string Schema => ((OutboxOptionsExtension)Extension).Options.Schema;

        public override bool IsDatabaseProvider => false;

        public override string LogFragment => $"using outbox schema '{Schema}' ";

        public override int GetServiceProviderHashCode() => Schema.GetHashCode(StringComparison.Ordinal);

        public override bool ShouldUseSameServiceProvider(DbContextOptionsExtensionInfo other) => other is ExtensionInfo info && info.Schema == Schema;

        public override void PopulateDebugInfo(IDictionary<string, string> debugInfo) => debugInfo["Outbox:Schema"] = Schema;
    }
}
