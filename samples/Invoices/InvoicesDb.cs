using System.ComponentModel.DataAnnotations.Schema;
using Microsoft.EntityFrameworkCore;

namespace Invoices;

[Table("customers")]
internal sealed class Customer
{
    [Column("id")]
    public long Id { get; init; }

    [Column("email")]
    public required string Email { get; init; }
}

[Table("orders")]
internal sealed class Order
{
    [Column("id")]
    public long Id { get; init; }

    [Column("customer_id")]
    public long CustomerId { get; init; }

    [Column("amount")]
    public decimal Amount { get; init; }
}

[Table("invoices")]
internal sealed class Invoice
{
    [Column("id")]
    public long Id { get; private set; }

    [Column("customer_id")]
    public required long CustomerId { get; init; }

    [Column("month")]
    public required string Month { get; init; }

    [Column("amount")]
    public required decimal Amount { get; init; }

    [Column("mailed_at")]
    public DateTime? MailedAt { get; set; }
}

internal sealed class InvoicesDb(DbContextOptions<InvoicesDb> options) : DbContext(options)
{
    public DbSet<Customer> Customers => Set<Customer>();

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Invoice> Invoices => Set<Invoice>();
}
