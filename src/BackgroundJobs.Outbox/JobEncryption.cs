using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace BackgroundJobs.Outbox;

/// <summary>
/// Encrypts the arguments of jobs, so that neither a backup nor whoever may read the tables sees them: AES-256-GCM, bound to the job's id and
/// kind, so that one job's arguments cannot be put into another's. Best is still to pass ids, and no secrets at all.
/// </summary>
/// <remarks>
/// The arguments become <c>{"$encrypted": key id, "data": base64 of nonce, tag and ciphertext}</c>. Headers, cursors and errors stay as they
/// are. Arguments that are not encrypted can still be read: of jobs that were enqueued before, or by the SQL function.
/// </remarks>
public sealed class JobEncryption
{
    private const int KeyBytes = 32;
    private const int NonceBytes = 12;
    private const int TagBytes = 16;
    private const int MaxKeyId = 63;

    private readonly Dictionary<string, byte[]> keys = new(StringComparer.Ordinal);
    private readonly string current;

    /// <summary>Encrypts with one key.</summary>
    /// <param name="keyId">Says with which key a job was encrypted; stands in the database. 1 to 63 characters of a-z, 0-9, <c>_ . : -</c>.</param>
    /// <param name="key">32 bytes, from where the application keeps its secrets. Copied.</param>
    /// <exception cref="OutboxException">Another key id, or a key of another length.</exception>
    public JobEncryption(string keyId, ReadOnlySpan<byte> key)
    {
        current = keyId;
        Keep(keyId, key);
    }

    /// <summary>Adds a key that was used before: its jobs can be read, and no new ones are encrypted with it.</summary>
    /// <param name="keyId">As it was.</param>
    /// <param name="key">32 bytes. Copied.</param>
    /// <returns>This.</returns>
    /// <exception cref="OutboxException">A key id that is taken or not allowed, or a key of another length.</exception>
    public JobEncryption AddOldKey(string keyId, ReadOnlySpan<byte> key)
    {
        Keep(keyId, key);
        return this;
    }

    internal string Encrypt(string args, Guid id, string kind)
    {
        var plain = Encoding.UTF8.GetBytes(args);
        var data = new byte[NonceBytes + TagBytes + plain.Length];
        var nonce = data.AsSpan(0, NonceBytes);
        RandomNumberGenerator.Fill(nonce);
        using var aes = new AesGcm(keys[current], TagBytes);
        aes.Encrypt(nonce, plain, data.AsSpan(NonceBytes + TagBytes), data.AsSpan(NonceBytes, TagBytes), Bound(id, kind));
        return $$"""{"$encrypted":"{{current}}","data":"{{Convert.ToBase64String(data)}}"}""";
    }

    // The arguments as they were given; those that are no envelope as they are.
    internal static byte[] Decrypt(byte[] args, Guid id, string kind, JobEncryption? encryption)
    {
        if (args.AsSpan().IndexOf("\"$encrypted\""u8) < 0 || Envelope(args) is not { } envelope)
            return args;
        if (encryption is null)
            throw new JsonException($"The arguments are encrypted with key '{envelope.KeyId}', and this worker has no keys. Set OutboxOptions.Encryption.");
        if (!encryption.keys.TryGetValue(envelope.KeyId, out var key))
            throw new JsonException($"The arguments are encrypted with key '{envelope.KeyId}', which this worker does not have. Add it with AddOldKey, or deploy it.");
        if (envelope.Data.Length < NonceBytes + TagBytes)
            throw new JsonException("The arguments are encrypted, and cut off.");
        var plain = new byte[envelope.Data.Length - NonceBytes - TagBytes];
        using var aes = new AesGcm(key, TagBytes);
        try
        {
            aes.Decrypt(envelope.Data.AsSpan(0, NonceBytes), envelope.Data.AsSpan(NonceBytes + TagBytes), envelope.Data.AsSpan(NonceBytes, TagBytes), plain, Bound(id, kind));
        }
        catch (AuthenticationTagMismatchException e)
        {
            throw new JsonException("The encrypted arguments are not those of this job: they were changed, or put here from another one.", e);
        }

        return plain;
    }

    private static (string KeyId, byte[] Data)? Envelope(byte[] args)
    {
        string? keyId = null;
        byte[]? data = null;
        var reader = new Utf8JsonReader(args);
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            return null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var isKeyId = reader.ValueTextEquals("$encrypted"u8);
            if (!isKeyId && !reader.ValueTextEquals("data"u8) || !reader.Read() || reader.TokenType != JsonTokenType.String)
                return null;
            if (isKeyId)
                keyId = reader.GetString();
            else if (!reader.TryGetBytesFromBase64(out data))
                return null;
        }

        return keyId is not null && data is not null ? (keyId, data) : null;
    }

    private static byte[] Bound(Guid id, string kind)
    {
        var kindBytes = Encoding.UTF8.GetBytes(kind);
        var bound = new byte[16 + sizeof(int) + kindBytes.Length];
        id.TryWriteBytes(bound, bigEndian: true, out _);
        BinaryPrimitives.WriteInt32BigEndian(bound.AsSpan(16), kindBytes.Length);
        kindBytes.CopyTo(bound, 16 + sizeof(int));
        return bound;
    }

    private void Keep(string keyId, ReadOnlySpan<byte> key)
    {
        ArgumentNullException.ThrowIfNull(keyId);
        if (keyId.Length > MaxKeyId || !JobName.IsQueue(keyId))
            throw new OutboxException($"'{keyId}' cannot be a key's id: use 1 to {MaxKeyId} characters of a-z, 0-9 and _ . : -, the first one a letter or digit.");
        if (key.Length != KeyBytes)
            throw new OutboxException($"Key '{keyId}' has {key.Length} bytes. AES-256 needs {KeyBytes}: RandomNumberGenerator.GetBytes({KeyBytes}) makes a key.");
        if (!keys.TryAdd(keyId, key.ToArray()))
            throw new OutboxException($"There are two keys with the id '{keyId}'. Give each key an id of its own.");
    }
}
