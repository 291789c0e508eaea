using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Migrations;

// What the catalog says about our schema, one line per thing, in words that do not differ from one PostgreSQL to the next.
internal static class SchemaDump
{
    // Partitions of a day have a date in their name: they come and go.
    private const string Ours = "class.relnamespace = $1::regnamespace AND class.relname !~ '^job_history_[0-9]{8}'";

    private static readonly string[] Parts =
    [
        $"""
        SELECT format('column %s.%s %s%s%s%s', class.relname, attribute.attname,
            CASE WHEN type.typtype = 'd' THEN type.typname ELSE format_type(attribute.atttypid, attribute.atttypmod) END,
            CASE WHEN attribute.attnotnull THEN ' NOT NULL' ELSE '' END,
            CASE WHEN attribute.attcollation = 'pg_catalog."C"'::regcollation THEN ' COLLATE "C"' ELSE '' END,
            coalesce(' DEFAULT ' || pg_get_expr(value.adbin, value.adrelid), ''))
        FROM pg_class AS class
        JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
        JOIN pg_type AS type ON type.oid = attribute.atttypid
        LEFT JOIN pg_attrdef AS value ON value.adrelid = class.oid AND value.adnum = attribute.attnum
        WHERE {Ours} AND class.relkind IN ('r', 'p', 'v')
        ORDER BY class.relname COLLATE "C", attribute.attnum
        """,
        $"""
        SELECT format('table %s%s%s', class.relname, coalesce(' PARTITION BY ' || pg_get_partkeydef(class.oid), ''),
            coalesce(' WITH (' || array_to_string(class.reloptions, ', ') || ')', ''))
        FROM pg_class AS class
        WHERE {Ours} AND class.relkind IN ('r', 'p')
        ORDER BY class.relname COLLATE "C"
        """,
        $"""
        SELECT format('constraint %s.%s %s', class.relname, rule.conname, pg_get_constraintdef(rule.oid))
        FROM pg_constraint AS rule
        JOIN pg_class AS class ON class.oid = rule.conrelid
        WHERE {Ours} AND rule.contype <> 'n'
        ORDER BY class.relname COLLATE "C", rule.conname COLLATE "C"
        """,
        """
        SELECT format('domain %s AS %s%s %s %s', type.typname, format_type(type.typbasetype, type.typtypmod),
            CASE WHEN type.typcollation = 'pg_catalog."C"'::regcollation THEN ' COLLATE "C"' ELSE '' END, rule.conname, pg_get_constraintdef(rule.oid))
        FROM pg_type AS type
        JOIN pg_constraint AS rule ON rule.contypid = type.oid
        WHERE type.typnamespace = $1::regnamespace
        ORDER BY type.typname COLLATE "C"
        """,
        $"""
        SELECT format('index %s', pg_get_indexdef(class.oid))
        FROM pg_class AS class
        WHERE {Ours} AND class.relkind IN ('i', 'I')
        ORDER BY class.relname COLLATE "C"
        """,
        """
        SELECT format('function %s(%s) returns %s, %s%s%s%s%s, body %s', proc.proname, pg_get_function_arguments(proc.oid),
            pg_get_function_result(proc.oid), language.lanname, CASE WHEN proc.prosecdef THEN ', security definer' ELSE '' END,
            coalesce(', set ' || array_to_string(proc.proconfig, '; '), ''),
            CASE proc.proparallel WHEN 's' THEN ', parallel safe' ELSE '' END,
            CASE WHEN has_function_privilege('public', proc.oid, 'EXECUTE') THEN ', for everyone' ELSE ', by grant' END,
            md5(proc.prosrc))
        FROM pg_proc AS proc
        JOIN pg_language AS language ON language.oid = proc.prolang
        WHERE proc.pronamespace = $1::regnamespace
        ORDER BY proc.proname COLLATE "C", proc.pronargs
        """,
        $"""
        SELECT pg_get_triggerdef(trigger.oid)
        FROM pg_trigger AS trigger
        JOIN pg_class AS class ON class.oid = trigger.tgrelid
        WHERE {Ours} AND NOT trigger.tgisinternal
        ORDER BY trigger.tgname COLLATE "C"
        """,
    ];

    public static async Task<string> OfAsync(ScratchDatabase database, string schema)
    {
        List<string> lines = [];
        foreach (var part in Parts)
            lines.AddRange(await database.TextsAsync(part.Replace("$1", $"'{schema}'", StringComparison.Ordinal)));
        return string.Join('\n', lines) + "\n";
    }
}
