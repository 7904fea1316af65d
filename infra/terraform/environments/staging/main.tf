# State belongs into a bucket of its own, with versions and a lock: put its backend here before the first apply.
terraform {
  required_version = ">= 1.6"
}

variable "region" {
  type = string
}

variable "bucket" {
  type = string
}

variable "cluster_oidc_arn" {
  type = string
}

variable "people" {
  type = list(string)
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "hymunet", environment = "staging" }
  }
}

module "environment" {
  source           = "../../modules/environment"
  environment      = "staging"
  bucket           = var.bucket
  cluster_oidc_arn = var.cluster_oidc_arn
  people           = var.people
  replaced_days    = 30
}

output "environment" {
  value = module.environment
}
