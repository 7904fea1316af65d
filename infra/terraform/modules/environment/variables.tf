variable "environment" {
  description = "staging or production; part of every name."
  type        = string
  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment is staging or production."
  }
}

variable "bucket" {
  description = "The bucket's name, unique in the world."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 63 small letters, digits and hyphens."
  }
}

variable "images" {
  description = "Repositories of the image registry."
  type        = set(string)
  default     = ["cpu", "cuda", "data", "serving", "tracking"]
}

variable "cluster_oidc_arn" {
  description = "ARN of the IAM OIDC provider of the cluster, by which pods get their roles."
  type        = string
  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/.+$", var.cluster_oidc_arn))
    error_message = "cluster_oidc_arn: arn:aws:iam::ACCOUNT:oidc-provider/ISSUER."
  }
}

variable "people" {
  description = "ARNs of the users or roles that may become the role `people`."
  type        = list(string)
  validation {
    condition     = length(var.people) > 0 && alltrue([for arn in var.people : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/.+$", arn))])
    error_message = "people: at least one ARN of a user or role; no wildcard, no whole account."
  }
}

variable "checkpoint_days" {
  description = "A checkpoint that was not rewritten for so many days is removed."
  type        = number
  default     = 30
}

variable "replaced_days" {
  description = "A version of an object that was replaced is kept for so many days."
  type        = number
  default     = 30
}
