using System.Buffers.Binary;
using System.Security.Cryptography;

namespace BackgroundJobs.Outbox;

/// <summary>Makes job ids: UUIDv7 (RFC 9562), ascending within a process, so that jobs of one moment keep the order of their enqueue.</summary>
public static class JobId
{
    // 48 bits of Unix milliseconds and 12 bits of counter (rand_a, RFC 9562 §6.2 method 1). Guid.CreateVersion7 is random within
    // a millisecond: two jobs of one SaveChanges would then run in any order.
    private static long last;

    /// <summary>A new id.</summary>
    /// <param name="time">The clock; default: the system's.</param>
    /// <returns>A UUIDv7, greater than every one that this process made before.</returns>
    public static Guid New(TimeProvider? time = null)
    {
        var now = (time ?? TimeProvider.System).GetUtcNow().ToUnixTimeMilliseconds() << 12;
        long previous, next;
        do
        {
            previous = Volatile.Read(ref last);
            next = Math.Max(previous + 1, now);
        }
        while (Interlocked.CompareExchange(ref last, next, previous) != previous);

        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteInt64BigEndian(bytes, next >> 12 << 16);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[6..], (ushort)(0x7000 | (next & 0xFFF)));
        RandomNumberGenerator.Fill(bytes[8..]);
        bytes[8] = (byte)(0x80 | (bytes[8] & 0x3F));
        return new Guid(bytes, bigEndian: true);
    }
}
