using Npgsql;
using NpgsqlTypes;

namespace BackgroundJobs.Outbox.Postgres;

// Puts an SqlFile and its values together. Values are given by name and sent by position, so that Npgsql need not parse the statement.
internal static class SqlCommands
{
    public static NpgsqlCommand Command(this SqlFile file, NpgsqlConnection connection, params ReadOnlySpan<(string Name, NpgsqlParameter Value)> values)
    {
        var command = new NpgsqlCommand(file.Text, connection);
        Bind(file, command.Parameters, values);
        return command;
    }

    public static NpgsqlBatchCommand BatchCommand(this SqlFile file, params ReadOnlySpan<(string Name, NpgsqlParameter Value)> values)
    {
        var command = new NpgsqlBatchCommand(file.Text);
        Bind(file, command.Parameters, values);
        return command;
    }

    public static NpgsqlParameter Value<T>(T value) => new NpgsqlParameter<T> { TypedValue = value };

    public static NpgsqlParameter Value<T>(T value, NpgsqlDbType type) => new NpgsqlParameter<T> { TypedValue = value, NpgsqlDbType = type };

    // Of a type that PostgreSQL knows from the statement.
    public static NpgsqlParameter Optional(object? value) => new() { Value = value ?? DBNull.Value };

    private static void Bind(SqlFile file, NpgsqlParameterCollection parameters, ReadOnlySpan<(string Name, NpgsqlParameter Value)> values)
    {
        foreach (var name in file.Parameters)
        {
            NpgsqlParameter? found = null;
            foreach (var (given, value) in values)
            {
                if (given == name)
                    found = value;
            }

            parameters.Add(found ?? throw new InvalidOperationException($"{file.Name} has a parameter @{name} that was not given."));
        }
    }
}
