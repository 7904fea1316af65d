output "bucket" {
  description = "For addresses.yaml and settings.yaml."
  value       = aws_s3_bucket.store.id
}

output "images" {
  description = "Where each image is pushed to."
  value       = { for name, repository in aws_ecr_repository.image : name => repository.repository_url }
}

output "roles" {
  description = "ARNs; pods get theirs by the annotation eks.amazonaws.com/role-arn of their service account."
  value       = { for name, role in aws_iam_role.role : name => role.arn }
}
