using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A job whose arguments are made by the save, and which properties of which entities they read.
internal sealed class LateJob(JobRow row, DbContext db, Expression factory, Func<string> args, (ParameterExpression Parameter, object Entity)? bound = null)
{
    public JobRow Row => row;

    // True while the row waits to be saved; false once it was saved, dropped or forgotten.
    public bool IsPending => row.EntryIn(db).State == EntityState.Added;

    public void Evaluate() => row.EntryIn(db).Property(each => each.Args).CurrentValue = args();

    public void Drop() => row.EntryIn(db).State = EntityState.Detached;

    // What the factory reads of tracked entities; property null: the entity is passed on whole, so anything of it may be read.
    public List<(EntityEntry Entry, MemberInfo? Member)> Reads()
    {
        var reads = new ReadFinder(this);
        reads.Visit(factory);
        return reads.Found;
    }

    private sealed class ReadFinder(LateJob job) : ExpressionVisitor
    {
        public List<(EntityEntry, MemberInfo?)> Found { get; } = [];

        protected override Expression VisitMember(MemberExpression node)
        {
            if (node.Expression is not null && Value(node.Expression) is { } owner && Entity(owner) is { } entry)
            {
                // A navigation is only a step on the way to another entity; what lies behind it is looked at on its own.
                if (entry.Metadata.FindNavigation(node.Member.Name) is null)
                    Found.Add((entry, node.Member));
                else if (Value(node) is { } whole && Entity(whole) is { } next)
                    Found.Add((next, null));
                return node;
            }

            // A captured variable that is an entity, and is not itself dereferenced (that case is above): passed on whole.
            if (Value(node) is { } value && Entity(value) is { } passed)
            {
                Found.Add((passed, null));
                return node;
            }

            return base.VisitMember(node);
        }

        protected override Expression VisitParameter(ParameterExpression node)
        {
            if (job.Bound(node) is { } entity && Entity(entity) is { } entry)
                Found.Add((entry, null));
            return node;
        }

        private EntityEntry? Entity(object value)
        {
            var type = value.GetType();
            if (type.IsValueType || value is string || job.Db.Model.FindEntityTypes(type).FirstOrDefault() is null && job.Db.Model.FindRuntimeEntityType(type) is null)
                return null;
            var entry = job.Db.Entry(value);
            return entry;
        }

        // Closures, fields, properties: what can be read without running anything of the user's but getters. Null: not of that kind.
        private object? Value(Expression expression) => expression switch
        {
            ConstantExpression constant => constant.Value,
            ParameterExpression parameter => job.Bound(parameter),
            MemberExpression { Member: FieldInfo field, Expression: null } => field.GetValue(null),
            MemberExpression { Member: FieldInfo field, Expression: { } on } => Value(on) is { } owner ? field.GetValue(owner) : null,
            MemberExpression { Member: PropertyInfo property, Expression: null } => property.GetValue(null),
            MemberExpression { Member: PropertyInfo property, Expression: { } on } => Value(on) is { } owner ? property.GetValue(owner) : null,
            UnaryExpression { NodeType: ExpressionType.Convert or ExpressionType.TypeAs } cast => Value(cast.Operand),
            _ => null,
        };
    }

    private DbContext Db => db;

    private object? Bound(ParameterExpression parameter) => bound is { } known && known.Parameter == parameter ? known.Entity : null;
}
