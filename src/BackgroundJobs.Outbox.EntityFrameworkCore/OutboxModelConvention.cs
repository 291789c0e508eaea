using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Metadata.Builders;
using Microsoft.EntityFrameworkCore.Metadata.Conventions;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// Maps our tables into the application's model, out of its migrations, and carries the rules (EnqueuesOnInsert ...) over to the
// finished model. One instance per model that is built.
internal sealed class OutboxModelConvention(string schema) : IModelInitializedConvention, IModelFinalizingConvention, IModelFinalizedConvention
{
    private readonly Dictionary<string, IReadOnlyList<JobRule>> rules = new(StringComparer.Ordinal);

    public void ProcessModelInitialized(IConventionModelBuilder modelBuilder, IConventionContext<IConventionModelBuilder> context)
    {
        var model = (IMutableModel)modelBuilder.Metadata;
        foreach (var (type, table) in new[] { (typeof(JobRow), "jobs"), (typeof(RelatedJobRow), "related_jobs") })
        {
            var jobs = Map(model, type, table, nameof(JobRow.Id));
            jobs.FindProperty(nameof(JobRow.RunAt))!.ValueGenerated = ValueGenerated.OnAdd;
            jobs.FindProperty(nameof(JobRow.Args))!.SetAfterSaveBehavior(PropertySaveBehavior.Throw);
        }

        // Their tables are names only: what is inserted goes to the procedures. EF Core sends commands in the order of these names, and after the end of
        // the running job no job can be added alongside it, and none of its steps saved.
        Call(
            Map(model, typeof(JobStep), "unsaved_steps", nameof(JobStep.Id), nameof(JobStep.Name)),
            "save_step", nameof(JobStep.Id), nameof(JobStep.LeaseToken), nameof(JobStep.Name), nameof(JobStep.Step));
        Call(
            Map(model, typeof(JobCompletion), "~ends", nameof(JobCompletion.Id)),
            "complete_job", nameof(JobCompletion.Id), nameof(JobCompletion.LeaseToken), nameof(JobCompletion.History), nameof(JobCompletion.Result));
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

    private void Call(IMutableEntityType entityType, string procedure, params ReadOnlySpan<string> parameters)
    {
        var insert = entityType.SetInsertStoredProcedure();
        insert.Name = procedure;
        insert.Schema = schema;
        foreach (var parameter in parameters)
            insert.AddParameter(parameter);
    }

    private IMutableEntityType Map(IMutableModel model, Type type, string table, params ReadOnlySpan<string> keys)
    {
        var entityType = model.AddEntityType(type);
        entityType.BaseType = null;
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
                nameof(JobRow.Args) or nameof(JobRow.Headers) or nameof(RelatedJobRow.DependsOn) or nameof(RelatedJobRow.UniqueRule) or nameof(JobCompletion.Result) or nameof(JobStep.Step) => "jsonb",
                _ when member.PropertyType == typeof(string) => "text",
                _ when member.PropertyType == typeof(DateTime) || member.PropertyType == typeof(DateTime?) => "timestamp with time zone",
                _ => null,
            });
        }

        List<IMutableProperty> key = [];
        foreach (var name in keys)
        {
            key.Add(entityType.FindProperty(name)!);
            key[^1].IsNullable = false;
        }

        entityType.SetPrimaryKey(key);
        return entityType;
    }

    private static string ColumnName(string property) => property == nameof(JobRow.TraceParent)
        ? "traceparent"
        : string.Concat(property.Select((c, i) => char.IsUpper(c) ? (i > 0 ? "_" : "") + char.ToLowerInvariant(c) : c.ToString()));
}
