using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Metadata.Builders;
using Microsoft.EntityFrameworkCore.Metadata.Conventions;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// Maps our two tables into the application's model, out of its migrations, and carries the rules (EnqueuesOnInsert ...) over to the
// finished model. One instance per model that is built.
internal sealed class OutboxModelConvention(string schema) : IModelInitializedConvention, IModelFinalizingConvention, IModelFinalizedConvention
{
    private readonly Dictionary<string, IReadOnlyList<JobRule>> rules = new(StringComparer.Ordinal);

    public void ProcessModelInitialized(IConventionModelBuilder modelBuilder, IConventionContext<IConventionModelBuilder> context)
    {
        var model = (IMutableModel)modelBuilder.Metadata;
        var jobs = Map(model, typeof(JobRow), "jobs");
        jobs.FindProperty(nameof(JobRow.RunAt))!.ValueGenerated = ValueGenerated.OnAdd;
        jobs.FindProperty(nameof(JobRow.Args))!.SetAfterSaveBehavior(PropertySaveBehavior.Throw);
        // Its table is a name only: what is inserted goes to the procedure.
        var complete = Map(model, typeof(JobCompletion), "job_history").SetInsertStoredProcedure();
        complete.Name = "complete_job";
        complete.Schema = schema;
        complete.AddParameter(nameof(JobCompletion.Id));
        complete.AddParameter(nameof(JobCompletion.LeaseToken));
        complete.AddParameter(nameof(JobCompletion.History));
        complete.AddParameter(nameof(JobCompletion.Result));
    }

    // The rules are expressions: a migration's snapshot could not write them down, so they leave the model before it is final.
    public void ProcessModelFinalizing(IConventionModelBuilder modelBuilder, IConventionContext<IConventionModelBuilder> context)
    {
        foreach (var entityType in modelBuilder.Metadata.GetEntityTypes())
        {
            if (entityType.RemoveAnnotation(JobRule.Annotation)?.Value is List<JobRule> found)
                rules[entityType.Name] = found;
        }
    }

    public IModel ProcessModelFinalized(IModel model)
    {
        if (rules.Count > 0)
            model.AddRuntimeAnnotation(JobRule.Annotation, rules);
        return model;
    }

    private IMutableEntityType Map(IMutableModel model, Type type, string table)
    {
        var entityType = model.AddEntityType(type);
        entityType.SetTableName(table);
        entityType.SetSchema(schema);
        entityType.SetIsTableExcludedFromMigrations(true);
        foreach (var member in type.GetProperties())
        {
            var property = entityType.FindProperty(member) ?? entityType.AddProperty(member);
            property.ValueGenerated = ValueGenerated.Never;
            property.SetColumnName(ColumnName(member.Name));
            property.SetColumnType(member.Name switch
            {
                nameof(JobRow.Args) or nameof(JobRow.Headers) or nameof(JobRow.DependsOn) or nameof(JobRow.UniqueRule) or nameof(JobCompletion.Result) => "jsonb",
                _ when member.PropertyType == typeof(string) => "text",
                _ when member.PropertyType == typeof(DateTime) || member.PropertyType == typeof(DateTime?) => "timestamp with time zone",
                _ => null,
            });
        }

        entityType.SetPrimaryKey(entityType.FindProperty(nameof(JobRow.Id))!);
        return entityType;
    }

    private static string ColumnName(string property) => property == nameof(JobRow.TraceParent)
        ? "traceparent"
        : string.Concat(property.Select((c, i) => char.IsUpper(c) ? (i > 0 ? "_" : "") + char.ToLowerInvariant(c) : c.ToString()));
}
